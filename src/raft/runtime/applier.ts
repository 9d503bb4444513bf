/**
 * The apply thread of the core: hands committed entries to the state machine in order, in slices
 * of at most `APPLY_SLICE_MS` a turn, so that heartbeats and votes never wait for a long replay.
 * Empty entries (a new leader's first one, barriers) and configuration changes do not reach the
 * user; the entries of a restore do at its end, as a new state (`restore-entries.ts`).
 */
import { AssertionError, assert, at } from '../../base/assert.ts'
import type { Clock, Timer } from '../../base/clock.ts'
import { SwarmError } from '../../base/errors.ts'
import type { Entry, EntryId, Index, Term } from '../core/entry.ts'
import type { Message, StorageApply } from '../core/message.ts'
import { APPLY_CHUNK_ENTRIES, APPLY_SLICE_MS } from './options.ts'
import type { StateMachine } from './ports.ts'
import { contentOf, RestoreAssembler, type RestoredState } from './restore-entries.ts'

/** What the applier tells its owner. */
export interface ApplierHooks<R> {
  /** One entry took effect. */
  readonly onEntry: (entry: Entry, response: R | undefined) => void
  /** A committed configuration change takes effect now. */
  readonly onConfChange: (entry: Entry) => void
  /** A whole chunk of `sizeBytes` of data is applied; `appliedIndex` is renewed. */
  readonly onProgress: (sizeBytes: number) => void
  /** A restore put a new state in force here. */
  readonly onRestored: (entry: Entry, sizeBytes: number) => void
  /** All entries of one request are applied: its answers go back to the core. */
  readonly onDone: (responses: readonly Message[]) => void
  readonly onFailure: (error: unknown) => void
}

/** Applies committed entries. */
export class Applier<R> {
  readonly #stateMachine: StateMachine<R>
  readonly #clock: Clock
  readonly #hooks: ApplierHooks<R>
  readonly #queue: StorageApply[] = []
  /** Entries of `#queue[0]` that are applied. */
  #offset = 0
  #timer: Timer | undefined
  #stopped = false
  /** In the middle of a slice. */
  #busy = false
  /** The state machine is being replaced. */
  #isRestoring = false
  readonly #restores = new RestoreAssembler()
  #idle: PromiseWithResolvers<void> | undefined
  /** Position of the last applied entry. */
  appliedIndex: Index
  appliedTerm: Term

  constructor(
    components: { readonly stateMachine: StateMachine<R>; readonly clock: Clock },
    start: { readonly index: Index; readonly term: Term },
    hooks: ApplierHooks<R>,
  ) {
    this.#stateMachine = components.stateMachine
    this.#clock = components.clock
    this.#hooks = hooks
    this.appliedIndex = start.index
    this.appliedTerm = start.term
  }

  enqueue(message: StorageApply): void {
    if (this.#stopped) return
    this.#queue.push(message)
    if (this.#timer === undefined && !this.#busy && !this.#isRestoring) this.#slice()
  }

  /** Whether the state machine is being replaced just now. */
  get restoring(): boolean {
    return this.#isRestoring
  }

  /**
   * Where a snapshot of the present state stands: before the restore that has begun, if one has,
   * since it would not hold the pieces.
   */
  get snapshotPosition(): EntryId {
    return this.#restores.before ?? { index: this.appliedIndex, term: this.appliedTerm }
  }

  /** Resolves when nothing waits to be applied. */
  async drained(): Promise<void> {
    if (this.#queue.length === 0 || this.#stopped) return
    this.#idle ??= Promise.withResolvers<void>()
    await this.#idle.promise
  }

  /** The state machine was replaced by a snapshot at this position. */
  restored(index: Index, term: Term): void {
    assert(this.#queue.length === 0, 'a snapshot is installed when nothing waits to be applied')
    this.#restores.reset()
    this.appliedIndex = index
    this.appliedTerm = term
  }

  stop(): void {
    this.#stopped = true
    this.#timer?.cancel()
    this.#timer = undefined
    this.#queue.length = 0
    this.#idle?.resolve()
  }

  #slice(): void {
    this.#timer = undefined
    this.#busy = true
    const endMs = this.#clock.monotonicMs() + APPLY_SLICE_MS
    try {
      while (this.#queue.length > 0 && !this.#isRestoring) {
        this.#chunk()
        if (this.#clock.monotonicMs() >= endMs) break
      }
    } catch (error) {
      if (error instanceof AssertionError) throw error
      this.stop()
      this.#hooks.onFailure(error)
    } finally {
      this.#busy = false
    }
    if (this.#isRestoring) return
    if (this.#queue.length > 0) this.#timer = this.#clock.after(0, () => this.#slice())
    else if (this.#idle !== undefined) {
      this.#idle.resolve()
      this.#idle = undefined
    }
  }

  #chunk(): void {
    const message = at(this.#queue, 0)
    const chunk = message.entries.slice(this.#offset, this.#offset + APPLY_CHUNK_ENTRIES)
    const end = chunk.findIndex((entry) => entry.type !== 'normal')
    const [first] = chunk
    if (first !== undefined) {
      assert(first.index === this.appliedIndex + 1, `entry ${first.index} is applied out of order`)
      const part = end === -1 ? chunk : chunk.slice(0, Math.max(1, end))
      if (first.type !== 'restore') this.#restores.onOther()
      if (first.type === 'restore') this.#applyRestore(first)
      else if (end === 0) this.#applyConfChange(first)
      else this.#applyNormal(part)
      if (this.#isRestoring) return
      this.#hooks.onProgress(part.reduce((sum, { data }) => sum + data.length, 0))
    }
    this.#endMessage()
  }

  #endMessage(): void {
    const message = at(this.#queue, 0)
    if (this.#offset < message.entries.length) return
    this.#queue.shift()
    this.#offset = 0
    this.#hooks.onDone(message.responses)
  }

  #applyRestore(entry: Entry): void {
    const before = { index: this.appliedIndex, term: this.appliedTerm }
    const state = this.#restores.take(entry, before)
    if (state !== undefined) {
      this.#isRestoring = true
      void this.#restore(entry, state)
      return
    }
    this.#advance(entry)
    this.#hooks.onEntry(entry, undefined)
  }

  /** Replaces the state, then goes on. */
  async #restore(entry: Entry, state: RestoredState): Promise<void> {
    try {
      await this.#stateMachine.restore(contentOf(state), entry.index)
    } catch (error) {
      this.stop()
      const message = `raft: the state machine took no restore at entry ${entry.index}`
      this.#hooks.onFailure(new SwarmError('INTERNAL', message, { cause: error }))
      return
    }
    if (this.#stopped) return
    this.#isRestoring = false
    this.#advance(entry)
    this.#hooks.onEntry(entry, undefined)
    this.#hooks.onProgress(entry.data.length)
    this.#hooks.onRestored(entry, state.sizeBytes)
    this.#endMessage()
    this.#slice()
  }

  #applyConfChange(entry: Entry): void {
    this.#advance(entry)
    this.#hooks.onConfChange(entry)
    this.#hooks.onEntry(entry, undefined)
  }

  #applyNormal(entries: readonly Entry[]): void {
    const commands = entries.filter(({ data }) => data.length > 0)
    const responses = commands.length === 0 ? [] : this.#run(commands)
    let next = 0
    for (const entry of entries) {
      const isCommand = entry.data.length > 0
      this.#advance(entry)
      this.#hooks.onEntry(entry, isCommand ? responses[next] : undefined)
      if (isCommand) next += 1
    }
  }

  #run(commands: readonly Entry[]): readonly R[] {
    try {
      const responses = this.#stateMachine.apply(commands)
      assert(responses.length === commands.length, 'the state machine gives one result an entry')
      return responses
    } catch (error) {
      if (error instanceof AssertionError) throw error
      const message = `raft: the state machine failed after entry ${this.appliedIndex}`
      throw new SwarmError('INTERNAL', message, { cause: error })
    }
  }

  #advance(entry: Entry): void {
    this.#offset += 1
    this.appliedIndex = entry.index
    this.appliedTerm = entry.term
  }
}
