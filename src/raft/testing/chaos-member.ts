/**
 * A member of a chaos run: a core whose writes, applications and messages happen when chance says
 * so, and which can crash between any two of them. What is in its log is durable; everything else
 * is lost.
 */
import { seededRandom } from '../../base/random.ts'
import { decodeConfChange } from '../core/conf-change-codec.ts'
import type { CoreOptions } from '../core/core-options.ts'
import type { ConfState, Entry, HardState, PeerId, Snapshot } from '../core/entry.ts'
import type { Message, StorageAppend, StorageApply } from '../core/message.ts'
import { RaftCore } from '../core/raft-core.ts'
import type { ReadState, Ready } from '../core/ready.ts'
import { MemoryLog } from './memory-log.ts'

/** What a run watches. */
export interface ChaosObserver {
  onApplied(member: PeerId, entry: Entry): void
  onRead(member: PeerId, read: ReadState): void
  onDurable(member: PeerId, hard: HardState): void
}

/** One member; `core` is undefined while it is down. */
export class ChaosMember {
  readonly id: PeerId
  readonly log: MemoryLog
  core: RaftCore | undefined
  readonly #options: Omit<CoreOptions, 'id' | 'applied' | 'random'>
  readonly #observer: ChaosObserver
  readonly #start: Snapshot
  #snapshot: Snapshot
  #restarts = 0
  #appendWork: StorageAppend[] = []
  #applyWork: StorageApply[] = []
  #outgoing: Message[] = []

  constructor(
    id: PeerId,
    setup: {
      readonly conf: ConfState
      readonly options: Omit<CoreOptions, 'id' | 'applied' | 'random'>
      readonly observer: ChaosObserver
    },
  ) {
    this.id = id
    this.#options = setup.options
    this.#observer = setup.observer
    this.#start = { metadata: { index: 0, term: 0, conf: setup.conf } }
    this.#snapshot = this.#start
    this.log = new MemoryLog(
      ({ data }) => data.length,
      () => this.#snapshot,
    )
    this.log.install(this.#start)
    this.start()
  }

  /** Starts from what is durable. */
  start(): void {
    this.#restarts += 1
    const { conf } = this.log.initialState()
    const index = this.log.firstIndex() - 1
    const term = this.log.term(index)
    this.#snapshot = { metadata: { index, term: typeof term === 'number' ? term : 0, conf } }
    const random = seededRandom(this.id * 1000 + this.#restarts)
    this.core = RaftCore.restore(
      { ...this.#options, id: this.id, applied: index, random },
      this.log,
    )
  }

  /** Loses everything that is not durable. */
  crash(): void {
    this.core = undefined
    this.#appendWork = []
    this.#applyWork = []
    this.#outgoing = []
  }

  /** Drops the part of the log that is applied. */
  compact(): void {
    if (this.#snapshot.metadata.index >= this.log.firstIndex()) this.log.compactTo(this.#snapshot)
  }

  /** Messages that have left. */
  takeOutgoing(): Message[] {
    const sent = this.#outgoing
    this.#outgoing = []
    return sent
  }

  /**
   * Does one piece of work; `crashNow` is asked between its parts. Returns false if none is left.
   */
  work(crashNow: () => boolean): boolean {
    const { core } = this
    if (core === undefined) return false
    if (core.hasReady()) {
      this.#handle(core, core.ready(), crashNow)
      return true
    }
    return this.#appendOne(core) || this.#applyOne(core)
  }

  /** Does one write of the append thread; returns false if there is none. */
  #appendOne(core: RaftCore): boolean {
    const work = this.#appendWork.shift()
    if (work === undefined) return false
    this.#write(work.hardState, work.entries, work.snapshot)
    this.#release(core, work.responses)
    return true
  }

  /** Does one application of the apply thread; returns false if there is none. */
  #applyOne(core: RaftCore): boolean {
    const work = this.#applyWork.shift()
    if (work === undefined) return false
    this.#apply(core, work.entries)
    this.#release(core, work.responses)
    return true
  }

  #handle(core: RaftCore, ready: Ready, crashNow: () => boolean): void {
    for (const read of ready.readStates) this.#observer.onRead(this.id, read)
    if (this.#options.asyncStorageWrites === true) {
      for (const message of ready.messages) {
        if (message.type === 'storageAppend') this.#appendWork.push(message)
        else if (message.type === 'storageApply') this.#applyWork.push(message)
        else this.#outgoing.push(message)
      }
      return
    }
    if (crashNow()) return this.crash()
    this.#write(ready.hard, ready.entries, ready.snapshot)
    if (crashNow()) return this.crash()
    this.#outgoing.push(...ready.messages)
    this.#apply(core, ready.committed)
    core.advance(ready)
    return undefined
  }

  #release(core: RaftCore, responses: readonly Message[]): void {
    for (const response of responses) {
      if (response.to === this.id) core.step(response)
      else this.#outgoing.push(response)
    }
  }

  #write(
    hard: HardState | undefined,
    entries: readonly Entry[],
    snapshot: Snapshot | undefined,
  ): void {
    if (hard !== undefined) {
      this.log.setHardState(hard)
      this.#observer.onDurable(this.id, hard)
    }
    if (snapshot !== undefined) {
      this.log.install(snapshot)
      this.#snapshot = snapshot
    }
    this.log.append(entries)
  }

  #apply(core: RaftCore, entries: readonly Entry[]): void {
    for (const entry of entries) {
      const { index, term } = entry
      // Handed out before a snapshot replaced the state machine.
      if (index <= this.#snapshot.metadata.index) continue
      this.#observer.onApplied(this.id, entry)
      const conf =
        entry.type === 'normal'
          ? this.#snapshot.metadata.conf
          : core.applyConfChange(decodeConfChange(entry.data))
      this.#snapshot = { metadata: { index, term, conf } }
    }
  }
}
