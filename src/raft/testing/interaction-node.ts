/**
 * One member in an interaction script: a core, a log in memory, and a state machine that appends
 * data to data. The history of its states serves as its snapshots. Source: etcd-io/raft
 * `rafttest/`.
 */
import { assert, at } from '../../base/assert.ts'
import { seededRandom } from '../../base/random.ts'
import { decodeConfChange } from '../core/conf-change-codec.ts'
import type { CoreOptions } from '../core/core-options.ts'
import type { ConfState, Entry, HardState, Snapshot } from '../core/entry.ts'
import type { StorageAppend, StorageApply } from '../core/message.ts'
import { RaftCore } from '../core/raft-core.ts'
import { MemoryLog } from './memory-log.ts'

/** What a script can say of a member. */
export type NodeOptions = Partial<CoreOptions>

/**
 * Constant part of an entry's size: scripts limit sizes to 1, so that any positive size will do.
 */
const ENTRY_OVERHEAD_BYTES = 8

/** As etcd's members are, a candidate that need not wait for its own vote among them. */
const SCRIPT_DEFAULTS = {
  electionTicks: 3,
  heartbeatTicks: 1,
  maxInflightMessages: 2 ** 31 - 1,
  leadsBeforeOwnVote: true,
}

const entrySize = (entry: Pick<Entry, 'data'>): number => entry.data.length + ENTRY_OVERHEAD_BYTES

/** A durable write to be made. */
export interface Write {
  readonly hard?: HardState | undefined
  readonly entries: readonly Entry[]
  readonly snapshot?: Snapshot | undefined
}

/** A member with its disk and its state machine. */
export class ScriptNode {
  readonly id: number
  readonly options: CoreOptions
  readonly core: RaftCore
  readonly log: MemoryLog
  /** What the append and apply threads have to do. */
  readonly appendWork: StorageAppend[] = []
  readonly applyWork: StorageApply[] = []
  /** Every state of the state machine; the newest is the snapshot that others get. */
  readonly #history: Snapshot[]

  constructor(id: number, options: NodeOptions, start: Snapshot) {
    this.id = id
    this.#history = [start]
    this.log = new MemoryLog(entrySize, () => this.newestSnapshot)
    if (start.metadata.index > 0) this.log.install(start)
    const random = seededRandom(id)
    this.options = { ...SCRIPT_DEFAULTS, random, entrySize, ...options, id }
    this.core = RaftCore.restore(this.options, this.log)
  }

  get newestSnapshot(): Snapshot {
    return at(this.#history, this.#history.length - 1)
  }

  /** Makes a write durable. */
  append({ hard, entries, snapshot }: Write): void {
    if (hard !== undefined) this.log.setHardState(hard)
    if (snapshot === undefined) {
      this.log.append(entries)
      return
    }
    assert(entries.length === 0, 'a snapshot is installed without entries')
    this.log.install(snapshot)
  }

  /** Applies committed entries. */
  apply(entries: readonly Entry[]): void {
    for (const entry of entries) this.#applyOne(entry)
  }

  #applyOne(entry: Entry): void {
    const { metadata, data: state } = this.newestSnapshot
    let conf: ConfState = metadata.conf
    let update = entry.data
    if (entry.type !== 'normal') {
      const change = decodeConfChange(entry.data)
      update = change.context ?? new Uint8Array()
      conf = this.core.applyConfChange(change)
    }
    const data = new Uint8Array([...(state ?? []), ...update])
    this.#history.push({ metadata: { index: entry.index, term: entry.term, conf }, data })
  }
}
