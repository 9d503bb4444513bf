/**
 * The node's own restarts (DESIGN.md decision 8). When a task ends that is wanted running, the node
 * makes its successor at once and starts it, leader or not; the cluster is told when it can listen.
 * Reports go in order: a successor's successor can only be told after it.
 *
 * A refused report (the task was moved, or is no longer wanted) means that the successor must stop.
 */
import type { Clock } from '../base/clock.ts'
import { isSwarmError } from '../base/errors.ts'
import { newIdentifier } from '../base/identifiers.ts'
import type { Logger } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import { isTerminal } from '../store/objects.ts'
import type { Task, TaskStatus } from '../store/objects.ts'
import { restartDelayNs, successorTaskId, wantsRestart } from '../store/restart-policy.ts'
import type { Proposer, RestartTaskAction } from '../store/transaction.ts'
import { observe } from './observations.ts'
import { RETRY_MS_MAX, RETRY_MS_MIN, pause } from './status-reporter.ts'
import type { TaskRecord } from './task-directory.ts'

/** A task that ran for less, milliseconds, ended rapidly. */
export const RAPID_END_MS = 1_000
/** The least delay after a rapid end, nanoseconds: a broken program must not eat the node. */
export const RAPID_RESTART_NS = 1_000_000_000
/** So many restarts of a slot are as quick as the policy says, rapid or not. */
export const RAPID_FREE_ATTEMPTS = 3

/** Unreported restarts after which a partitioned node restarts no faster than `SLOW_RESTART_NS`. */
export const UNREPORTED_RESTARTS_MAX = 500
/** 60 s in nanoseconds: the disk must not fill with the history of a crash loop. */
export const SLOW_RESTART_NS = 60_000_000_000

/** Most restarts in one proposal. */
const BATCH_MAX = 50

/** An ended task as the decision sees it. */
export interface EndedTask {
  readonly task: Task
  readonly status: TaskStatus
  /** Undefined: nobody watched. */
  readonly ranMs: number | undefined
}

/**
 * Whether the node itself restarts an ended task. Rejected ones are the leader's: maybe elsewhere.
 */
export function restartsLocally({ task, status }: EndedTask): boolean {
  if (status.state !== 'complete' && status.state !== 'failed') return false
  if (task.desiredState !== 'running' || isTerminal(task.status.state)) return false
  return wantsRestart({ spec: task.spec, attempt: task.attempt, status })
}

/** The successor of an ended task, ready to be written and run. */
export function successorRecord(
  ended: EndedTask & { readonly record: TaskRecord },
  context: { readonly clock: Clock; readonly seenIndex: number; readonly unreported: number },
): TaskRecord {
  const { task, status } = ended
  const policyNs = restartDelayNs(task.spec.RestartPolicy)
  const brief = ended.ranMs !== undefined && ended.ranMs < RAPID_END_MS
  const rapid = brief && task.attempt >= RAPID_FREE_ATTEMPTS
  const slow = context.unreported >= UNREPORTED_RESTARTS_MAX
  const delayNs = Math.max(policyNs, rapid ? RAPID_RESTART_NS : 0, slow ? SLOW_RESTART_NS : 0)
  const accepted = observe(context.clock, 'accepted', { message: 'restarted by its node' })
  const { networking, imageStopSignal } = ended.record
  return {
    task: {
      ...task,
      id: successorTaskId(task.id),
      desiredState: 'running',
      status: accepted,
      predecessor: task.id,
      attempt: task.attempt + 1,
      restartDelay: policyNs,
    },
    origin: 'local',
    seenIndex: context.seenIndex,
    status: accepted,
    predecessorStatus: status,
    delayNs,
    ...(networking === undefined ? {} : { networking }),
    ...(imageStopSignal === undefined ? {} : { imageStopSignal }),
  }
}

/** What the reports need. */
export interface RestartComponents {
  readonly proposer: Proposer
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  /** The record of a local successor; undefined when it is gone or the store knows it already. */
  pending(successorId: string): TaskRecord | undefined
  /** The cluster does not want this successor. */
  onRefused(successorId: string): void
}

/** Reports local restarts, in order, until each is accepted or refused. */
export class RestartReporter {
  readonly #parts: RestartComponents
  readonly #nodeId: string
  /** Ids of successors to report, oldest first. */
  readonly #queue = new Set<string>()
  #wake: (() => void) | undefined

  constructor(components: RestartComponents, options: { readonly nodeId: string }) {
    this.#parts = components
    this.#nodeId = options.nodeId
  }

  /** Restarts that the cluster has not been told. */
  get unreported(): number {
    return this.#queue.size
  }

  /** Whether this successor is still to be told. */
  isWaiting(successorId: string): boolean {
    return this.#queue.has(successorId)
  }

  /** Tells of a successor soon. */
  enqueue(successorId: string): void {
    this.#queue.add(successorId)
    this.#wake?.()
  }

  /** The one loop; ends when `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    let most = BATCH_MAX
    while (!signal.aborted) {
      await this.#untilSome(signal)
      const batch = this.#takeBatch(most)
      if (batch.length === 0) continue
      most = (await this.#report(batch, signal)) ? BATCH_MAX : 1
    }
  }

  #takeBatch(most: number): RestartTaskAction[] {
    const batch: RestartTaskAction[] = []
    for (const id of this.#queue) {
      const record = this.#parts.pending(id)
      const action = record === undefined ? undefined : this.#action(record)
      if (action === undefined) this.#queue.delete(id)
      else batch.push(action)
      if (batch.length >= most) break
    }
    return batch
  }

  #action(record: TaskRecord): RestartTaskAction | undefined {
    const { predecessor } = record.task
    if (predecessor === undefined || record.predecessorStatus === undefined) return undefined
    const { clock } = this.#parts
    const ended = isTerminal(record.status.state)
    return {
      type: 'restartTask',
      predecessor,
      nodeId: this.#nodeId,
      status: record.predecessorStatus,
      successorStatus: ended ? observe(clock, 'accepted') : record.status,
    }
  }

  /**
   * Proposes until there is an answer. Returns false when a batch was refused and must be divided.
   */
  async #report(batch: readonly RestartTaskAction[], signal: AbortSignal): Promise<boolean> {
    const requestId = newIdentifier(this.#parts.random)
    for (let failures = 0; ; failures += 1) {
      try {
        await this.#parts.proposer.propose(batch, { requestId, signal })
        for (const { predecessor } of batch) this.#queue.delete(successorTaskId(predecessor))
        return true
      } catch (error) {
        if (isRefusal(error)) return this.#onRefusal(batch, error)
        const fields = { err: error, failures, restarts: batch.length }
        if (failures === 0) this.#parts.log.warn(fields, 'cannot report local restarts now')
        const longest = Math.min(RETRY_MS_MIN * 2 ** Math.min(failures, 10), RETRY_MS_MAX)
        const waitMs = longest / 2 + this.#parts.random.integer(longest / 2)
        if (!(await pause(this.#parts.clock, waitMs, signal))) return true
      }
    }
  }

  #onRefusal(batch: readonly RestartTaskAction[], error: unknown): boolean {
    if (batch.length > 1) return false
    for (const { predecessor } of batch) {
      const successorId = successorTaskId(predecessor)
      this.#queue.delete(successorId)
      this.#parts.log.info({ err: error, task: successorId }, 'local restart refused')
      this.#parts.onRefused(successorId)
    }
    return true
  }

  #untilSome(signal: AbortSignal): Promise<void> {
    if (this.#queue.size > 0 || signal.aborted) return Promise.resolve()
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

/** Codes with which the cluster answers "no", as opposed to not answering. */
function isRefusal(error: unknown): boolean {
  return (
    isSwarmError(error, 'FAILED_PRECONDITION') ||
    isSwarmError(error, 'NOT_FOUND') ||
    isSwarmError(error, 'PERMISSION_DENIED') ||
    isSwarmError(error, 'INVALID_ARGUMENT')
  )
}
