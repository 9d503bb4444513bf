/**
 * Tells the cluster what this node observes. Reports are collected for `COALESCE_MS`, so that the
 * steps of many tasks become one proposal, and the newest status of a task wins over older ones
 * that are still waiting. A proposal that fails (no leader, partition) is repeated for ever: with
 * the same request id while its content is the same, since its first attempt may yet take effect.
 */
import { delay } from '../base/clock.ts'
import type { Clock } from '../base/clock.ts'
import { isSwarmError } from '../base/errors.ts'
import { newIdentifier } from '../base/identifiers.ts'
import type { Logger } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import type { TaskStatus } from '../store/objects.ts'
import { TRANSACTION_ACTIONS_MAX } from '../store/transaction.ts'
import type { ObserveTaskAction, Proposer } from '../store/transaction.ts'

/** Milliseconds that reports wait for company. */
export const COALESCE_MS = 10

/**
 * First and longest pause after a proposal failed, milliseconds; doubled each time, with jitter.
 */
export const RETRY_MS_MIN = 100
export const RETRY_MS_MAX = 5_000

/** What the reporter needs. */
export interface ReporterComponents {
  readonly proposer: Proposer
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}

/** Reports statuses of tasks of one node. */
export class StatusReporter {
  readonly #parts: ReporterComponents
  readonly #nodeId: string
  /** The newest status of each task that is to be reported; at most one per task of this node. */
  readonly #waiting = new Map<string, TaskStatus>()
  #wake: (() => void) | undefined

  constructor(components: ReporterComponents, options: { readonly nodeId: string }) {
    this.#parts = components
    this.#nodeId = options.nodeId
  }

  /** Reports `status` soon; forgets older ones of the same task. */
  observe(taskId: string, status: TaskStatus): void {
    this.#waiting.set(taskId, status)
    this.#wake?.()
  }

  /** Nothing more is to be said about a task. */
  forget(taskId: string): void {
    this.#waiting.delete(taskId)
  }

  /** The reporter's one loop; ends when `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#untilSome(signal)
      if (!(await pause(this.#parts.clock, COALESCE_MS, signal))) return
      await this.#report(signal)
    }
  }

  async #report(signal: AbortSignal): Promise<void> {
    let requestId = newIdentifier(this.#parts.random)
    let batch = this.#takeBatch()
    for (let failures = 0; batch.size > 0; failures += 1) {
      try {
        await this.#parts.proposer.propose(this.#actions(batch), { requestId, signal })
        return
      } catch (error) {
        if (signal.aborted) return
        this.#onFailure(error, failures)
        if (isSwarmError(error, 'INVALID_ARGUMENT')) return
      }
      const longest = Math.min(RETRY_MS_MIN * 2 ** Math.min(failures, 10), RETRY_MS_MAX)
      const waitMs = longest / 2 + this.#parts.random.integer(longest / 2)
      if (!(await pause(this.#parts.clock, waitMs, signal))) return
      if (this.#waiting.size > 0) {
        this.#putBack(batch)
        batch = this.#takeBatch()
        requestId = newIdentifier(this.#parts.random)
      }
    }
  }

  #onFailure(error: unknown, failures: number): void {
    const fields = { err: error, failures }
    if (failures === 0) this.#parts.log.warn(fields, 'cannot report task states now')
    else this.#parts.log.debug(fields, 'still cannot report task states')
  }

  #actions(batch: ReadonlyMap<string, TaskStatus>): ObserveTaskAction[] {
    return [...batch].map(([id, status]) => ({
      type: 'observeTask',
      id,
      nodeId: this.#nodeId,
      status,
    }))
  }

  #takeBatch(): Map<string, TaskStatus> {
    const batch = new Map([...this.#waiting].slice(0, TRANSACTION_ACTIONS_MAX))
    for (const id of batch.keys()) this.#waiting.delete(id)
    return batch
  }

  #putBack(batch: ReadonlyMap<string, TaskStatus>): void {
    for (const [id, status] of batch) if (!this.#waiting.has(id)) this.#waiting.set(id, status)
  }

  #untilSome(signal: AbortSignal): Promise<void> {
    if (this.#waiting.size > 0 || signal.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      const finish = (): void => {
        this.#wake = undefined
        signal.removeEventListener('abort', finish)
        resolve()
      }
      this.#wake = finish
      signal.addEventListener('abort', finish, { once: true })
    })
  }
}

/** Waits; false when `signal` aborted. */
export async function pause(clock: Clock, delayMs: number, signal: AbortSignal): Promise<boolean> {
  try {
    await delay(clock, delayMs, signal)
    return true
  } catch (error) {
    if (signal.aborted) return false
    throw error
  }
}
