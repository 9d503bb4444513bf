/**
 * Turns the state of a member into `Ready`s, and keeps what was told before, so that only news are
 * told.
 *
 * With asynchronous storage writes a `Ready` carries a message to the append thread and one to the
 * apply thread, each with the answers to release when it is done; `advance` is not called.
 * Otherwise the caller does everything in the `Ready` and calls `advance`, which steps what this
 * member told itself. Source: etcd-io/raft `rawnode.go`, in its semantics.
 */
import { assert } from '../../base/assert.ts'
import type { Entry, HardState } from './entry.ts'
import { APPEND_THREAD, APPLY_THREAD } from './message.ts'
import type { Message, StorageAppend, StorageApply, StorageApplyResponse } from './message.ts'
import type { Raft } from './raft.ts'
import { totalBytes } from './raft-log.ts'
import type { Ready, SoftState } from './ready.ts'

type Forming = { -readonly [Field in keyof Ready]: Ready[Field] }

/** The news of one member. */
export class Outbox {
  readonly #raft: Raft
  #soft: SoftState
  #hard: HardState
  /** Synchronous mode: what this member told itself in the `Ready` being handled. */
  #stepsOnAdvance: readonly Message[] | undefined

  constructor(raft: Raft) {
    this.#raft = raft
    this.#soft = this.#currentSoft()
    this.#hard = raft.hardState()
  }

  hasReady(): boolean {
    const { log, messages, afterAppend, readStates } = this.#raft
    return (
      messages.length > 0 ||
      afterAppend.length > 0 ||
      log.unstable.hasNextEntries ||
      log.hasNextCommitted ||
      readStates.length > 0 ||
      this.#softNews() !== undefined ||
      this.#hardNews() !== undefined ||
      log.unstable.nextSnapshot !== undefined
    )
  }

  /** Takes out everything that is to be done now. */
  take(): Ready {
    assert(this.#stepsOnAdvance === undefined, 'the previous Ready was not advanced')
    const ready = this.#assemble()
    if (ready.soft !== undefined) this.#soft = ready.soft
    if (ready.hard !== undefined) this.#hard = ready.hard
    const raft = this.#raft
    if (!raft.options.asyncStorageWrites) this.#stepsOnAdvance = this.#ownSteps(ready)
    raft.messages = []
    raft.afterAppend = []
    raft.readStates = []
    raft.log.unstable.acceptInProgress()
    const last = ready.committed.at(-1)
    if (last !== undefined) {
      const bytes = totalBytes(ready.committed, raft.options.entrySize)
      raft.log.acceptApplying(last.index, bytes)
    }
    return ready
  }

  /** What is to be stepped now that the last `Ready` is done. */
  takeSteps(): readonly Message[] {
    const steps = this.#stepsOnAdvance
    assert(steps !== undefined, 'advance follows a Ready of synchronous mode')
    this.#stepsOnAdvance = undefined
    return steps
  }

  #assemble(): Ready {
    const { log, messages, afterAppend, readStates, options, id } = this.#raft
    const soft = this.#softNews()
    const hard = this.#hardNews()
    const snapshot = log.unstable.nextSnapshot
    const entries = log.unstable.nextEntries()
    const before = this.#hard
    const mustSync =
      entries.length > 0 ||
      (hard !== undefined && (hard.term !== before.term || hard.vote !== before.vote))
    const committed = log.nextCommitted()
    // Filled in, not spread: this is made several times for each write.
    const ready: Forming = { readStates, entries, committed, messages, mustSync }
    if (soft !== undefined) ready.soft = soft
    if (hard !== undefined) ready.hard = hard
    if (snapshot !== undefined) ready.snapshot = snapshot
    const rest = options.asyncStorageWrites
      ? this.#threadMessages(ready)
      : afterAppend.filter(({ to }) => to !== id)
    if (rest.length > 0) ready.messages = [...messages, ...rest]
    return ready
  }

  #threadMessages(ready: Omit<Ready, 'messages'>): readonly Message[] {
    const { entries, hard, snapshot, committed } = ready
    const { afterAppend } = this.#raft
    const messages: Message[] = []
    if (
      entries.length > 0 ||
      hard !== undefined ||
      snapshot !== undefined ||
      afterAppend.length > 0
    )
      messages.push(this.#storageAppend(ready))
    if (committed.length > 0) messages.push(this.#storageApply(committed))
    return messages
  }

  #storageAppend({ entries, hard, snapshot }: Omit<Ready, 'messages'>): StorageAppend {
    const { id, afterAppend } = this.#raft
    const done = this.#appendDone({ snapshot })
    return {
      type: 'storageAppend',
      from: id,
      to: APPEND_THREAD,
      term: hard?.term ?? 0,
      logTerm: 0,
      index: 0,
      entries,
      ...(hard === undefined ? {} : { hardState: hard }),
      ...(snapshot === undefined ? {} : { snapshot }),
      responses: [...afterAppend, ...done],
    }
  }

  /**
   * The completion of this write: it vouches for the whole log up to its present end, since writes
   * are done in order. Term and entry are checked when it comes back: between, the tail may have
   * been replaced, perhaps by the same entries again, and then other writes are on their way (ABA,
   * bug 12). Sent as long as anything is unstable, even if nothing new is written: an earlier
   * completion may have been dropped for its term.
   */
  #appendDone({ snapshot }: Pick<Ready, 'snapshot'> | { snapshot: undefined }): readonly Message[] {
    const { log, id, term } = this.#raft
    const unstable = log.unstable.length > 0
    if (!unstable && snapshot === undefined) return []
    const last = unstable ? log.last : { index: 0, term: 0 }
    return [
      {
        type: 'storageAppendResp',
        from: APPEND_THREAD,
        to: id,
        term,
        index: last.index,
        logTerm: last.term,
        ...(snapshot === undefined ? {} : { snapshot }),
      },
    ]
  }

  #storageApply(entries: readonly Entry[]): StorageApply {
    const { id } = this.#raft
    const responses = [this.#applyDone(entries)]
    return { type: 'storageApply', from: id, to: APPLY_THREAD, term: 0, entries, responses }
  }

  #applyDone(entries: readonly Entry[]): StorageApplyResponse {
    const { id } = this.#raft
    return { type: 'storageApplyResp', from: APPLY_THREAD, to: id, term: 0, entries }
  }

  #ownSteps(ready: Ready): readonly Message[] {
    const { id, afterAppend } = this.#raft
    const steps = afterAppend.filter(({ to }) => to === id)
    steps.push(...this.#appendDone({ snapshot: ready.snapshot }))
    if (ready.committed.length > 0) steps.push(this.#applyDone(ready.committed))
    return steps
  }

  #currentSoft(): SoftState {
    return { lead: this.#raft.lead, role: this.#raft.role }
  }

  #softNews(): SoftState | undefined {
    const { lead, role } = this.#raft
    const same = lead === this.#soft.lead && role === this.#soft.role
    return same ? undefined : this.#currentSoft()
  }

  #hardNews(): HardState | undefined {
    const { term, vote, log } = this.#raft
    const old = this.#hard
    const same = term === old.term && vote === old.vote && log.committed === old.commit
    return same ? undefined : this.#raft.hardState()
  }
}
