/**
 * The core's two borders: what it reads (`LogView`) and what it wants done (`Ready`).
 * Source: etcd-io/raft `storage.go`, `rawnode.go`, `node.go`.
 */
import type { ConfState, Entry, HardState, Index, PeerId, Snapshot, Term } from './entry.ts'
import type { Message } from './message.ts'

export type Role = 'follower' | 'preCandidate' | 'candidate' | 'leader'

/** Volatile state of interest to the runtime. */
export interface SoftState {
  readonly lead: PeerId
  readonly role: Role
}

/** A read index that is confirmed: reads at `index` or later are linearizable. */
export interface ReadState {
  readonly index: Index
  readonly context: number
}

/**
 * The stable log as the core reads it, synchronously: the runtime keeps it in memory (`LogCache`)
 * or answers `unavailable`. Never shows what is not durable.
 */
export interface LogView {
  initialState(): { readonly hard: HardState; readonly conf: ConfState }
  /** Index of the first entry still in the log: snapshot index + 1. */
  firstIndex(): Index
  lastIndex(): Index
  /** Term of entry `index`, also for `firstIndex() - 1`. */
  term(index: Index): Term | 'compacted' | 'unavailable'
  /** Entries [low, high), at least one, then as many as fit in `maxBytes`. */
  entries(low: Index, high: Index, maxBytes: number): readonly Entry[] | 'compacted' | 'unavailable'
  /** The newest snapshot, for a follower that is too far behind. */
  snapshot(): Snapshot | 'unavailable'
}

/** One round of output. Everything in it is to be done in the order of the fields. */
export interface Ready {
  readonly soft?: SoftState
  readonly hard?: HardState
  readonly readStates: readonly ReadState[]
  /** To be made durable; replaces any entries from `entries[0].index` on. */
  readonly entries: readonly Entry[]
  /** To be installed. */
  readonly snapshot?: Snapshot
  /** To be applied. Durable already, or (synchronous mode only) in this same `Ready`. */
  readonly committed: readonly Entry[]
  /** To be sent; in synchronous mode after the durable write, in asynchronous mode at once. */
  readonly messages: readonly Message[]
  /** Whether the write must reach the disk before `advance`. */
  readonly mustSync: boolean
}
