/**
 * The clients of a simulation: they call the API of whatever node they are sent to. A write that
 * is refused with a code that promises no effect is held to it; every other end leaves it open.
 */
import { SwarmError, isSwarmError, type ErrorCode } from '../../base/errors.ts'
import type { Index } from '../core/entry.ts'
import type { History, OpenCall } from './history.ts'
import { encodeCommand, outsideState } from './register-machine.ts'
import type { SimNode } from './sim-node.ts'
import type { Verdict } from './verdict.ts'
import type { Action, Operation } from './actions.ts'

/** With these a write or a restore took no effect. */
export const WITHOUT_EFFECT: readonly ErrorCode[] = [
  'NOT_LEADER',
  'UNAVAILABLE',
  'RESOURCE_EXHAUSTED',
  'INVALID_ARGUMENT',
]

type RestoreAction = Operation & { readonly type: 'restore' }

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

  /**
   * Reads by lease at `node`, which thinks that it leads, as soon as its process has time: so a
   * leader that was stopped is asked before anything else happens to it.
   */
  leaseRead(node: SimNode, key: number): void {
    if (node.raft === undefined) return
    const call = this.#begin(node, { kind: 'read', key, id: 0, expected: undefined })
    node.soon(() => this.#settle(call, this.#leaseRead(node, call)))
  }

  async #leaseRead({ raft, machine }: SimNode, call: OpenCall): Promise<void> {
    if (raft === undefined || machine === undefined) return
    const look = (index: Index): [Index, number] => [index, machine.get(call.key)]
    const [index, value] = await raft.read(look, { consistency: 'lease' })
    this.#ended(call, () => this.#history.onRead(call, index, value))
  }

  /** Reads what `node` has, if that is proved to be at most `boundMs` old. */
  boundedRead(
    node: SimNode,
    { key, boundMs, waitMs }: { readonly key: number; boundMs: number; waitMs: number },
  ): void {
    const { raft, machine } = node
    if (raft === undefined || machine === undefined) return
    const call = this.#begin(node, { kind: 'read', key, id: 0, expected: undefined })
    const look = (index: Index): void => {
      this.#ended(call, () =>
        this.#history.onBoundedRead(call, { index, boundMs }, machine.get(key)),
      )
    }
    const wait = waitMs > 0 ? { timeoutMs: waitMs } : {}
    const options = { consistency: 'bounded', maxStalenessMs: boundMs, ...wait } as const
    node.soon(() => this.#settle(call, raft.read(look, options)))
  }

  /** Replaces the whole state at `node`. */
  restore(node: SimNode, { fate, gapMs }: RestoreAction, keys: number): void {
    const { raft } = node
    if (raft === undefined) return
    const values = new Map<number, number>()
    for (let key = 1; key <= keys; key += 1) values.set(key, this.#history.newId())
    const id = this.#history.newId()
    this.#verdict.note(id)
    const call = this.#begin(node, { kind: 'restore', key: 0, id, expected: undefined, values })
    const pieces = outsideState(id, values)
    const sizeBytes = pieces.reduce((sum, { length }) => sum + length, 0)
    const restore = async (): Promise<void> => {
      const announced = fate === 'wrongSize' ? sizeBytes + 1 : sizeBytes
      const source = slowly(node, pieces, { fate, gapMs })
      const index = await raft.restore(source, { sizeBytes: announced })
      if (fate !== 'whole') this.#verdict.fail('client-truth', `a ${fate} restore was taken`)
      this.#ended(call, () => this.#history.onRestored(call, index))
    }
    this.#history.onRestoreBegun({ id, values })
    this.#settle(call, restore())
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

/** @yields the pieces as a slow source gives them; a broken one ends in the middle */
async function* slowly(
  node: SimNode,
  pieces: readonly Uint8Array[],
  { fate, gapMs }: Pick<RestoreAction, 'fate' | 'gapMs'>,
): AsyncGenerator<Uint8Array> {
  for (const [position, piece] of pieces.entries()) {
    if (fate === 'broken' && position > 0) {
      throw new SwarmError('INVALID_ARGUMENT', 'the source of a restore broke')
    }
    if (gapMs > 0) await node.rest(gapMs)
    yield piece
  }
  if (fate === 'broken') throw new SwarmError('INVALID_ARGUMENT', 'the source of a restore broke')
}
