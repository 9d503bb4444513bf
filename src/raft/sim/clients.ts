/**
 * The clients of a simulation: they call the API of whatever node they are sent to. A write that
 * is refused with a code that promises no effect is held to it; every other end leaves it open.
 */
import { isSwarmError, type ErrorCode } from '../../base/errors.ts'
import type { History, OpenCall } from './history.ts'
import { encodeCommand } from './register-machine.ts'
import type { Action } from './schedule.ts'
import type { SimNode } from './sim-node.ts'
import type { Verdict } from './verdict.ts'

/** With these a write took no effect. */
const WITHOUT_EFFECT: readonly ErrorCode[] = [
  'NOT_LEADER',
  'RESOURCE_EXHAUSTED',
  'INVALID_ARGUMENT',
]

/** Calls and their outcomes. */
export class Clients {
  readonly #history: History
  readonly #verdict: Verdict
  /** Calls by the life of the node that was asked: they end with it. */
  readonly #calls = new Map<OpenCall, string>()

  constructor(history: History, verdict: Verdict) {
    this.#history = history
    this.#verdict = verdict
  }

  /** Writes at `node`; several go together. */
  write(node: SimNode, action: Action & { readonly type: 'write' }): void {
    for (let count = 0; count < action.count; count += 1) this.#write(node, action)
  }

  /** Reads at `node`, follower or leader. */
  read(node: SimNode, key: number): void {
    const { raft, machine } = node
    if (raft === undefined || machine === undefined) return
    const call = this.#begin(node, { kind: 'read', key, id: 0, expected: undefined })
    const read = async (): Promise<void> => {
      await raft.waitApplied(await raft.readIndex())
      this.#ended(call, () => this.#history.onRead(call, raft.appliedIndex, machine.get(key)))
    }
    this.#settle(call, read())
  }

  /** A process has ended: who waits for it will never know. */
  onCrash(life: string): void {
    for (const [call, owner] of this.#calls) {
      if (owner === life) this.#ended(call, () => this.#history.onUnknown(call))
    }
  }

  /** Calls that have not ended. */
  get waiting(): readonly OpenCall[] {
    return [...this.#calls.keys()]
  }

  #write(node: SimNode, { key, swap, padding }: Action & { readonly type: 'write' }): void {
    const { raft } = node
    if (raft === undefined) return
    const id = this.#history.newId()
    const expected = swap ? this.#history.lastValue(key) : undefined
    const call = this.#begin(node, { kind: 'write', key, id, expected })
    const write = async (): Promise<void> => {
      const { index, response } = await raft.apply(encodeCommand({ id, key, expected, padding }))
      this.#ended(call, () => this.#history.onWritten(call, index, response))
    }
    this.#settle(call, write())
  }

  #begin(node: SimNode, call: Omit<OpenCall, 'invokedAt' | 'floor'>): OpenCall {
    const open = this.#history.begin(call)
    this.#calls.set(open, node.lifeName)
    return open
  }

  #settle(call: OpenCall, outcome: Promise<void>): void {
    outcome.catch((error: unknown) => {
      if (!isSwarmError(error)) {
        this.#verdict.fail('crash', `a ${call.kind} threw ${String(error)}`)
      } else if (WITHOUT_EFFECT.includes(error.code)) {
        this.#ended(call, () => this.#history.onRefused(call))
      } else this.#ended(call, () => this.#history.onUnknown(call))
    })
  }

  #ended(call: OpenCall, tell: () => void): void {
    if (this.#calls.delete(call)) tell()
  }
}
