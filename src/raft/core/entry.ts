/**
 * The data that Raft moves and stores. Plain values: they go over the wire and to disk as they are
 * (`../runtime/codec.ts`). Source: etcd-io/raft `raftpb/raft.proto`, in its semantics.
 */

/** Position in the log; the first entry is 1, 0 means none. Branded: never mixed with terms. */
export type Index = number & { readonly __brand?: 'Index' }
/** Election term; starts at 0, grows with every election. */
export type Term = number & { readonly __brand?: 'Term' }
/** A member inside the core. 0 means none. Never reused. */
export type PeerId = number & { readonly __brand?: 'PeerId' }

export const NO_PEER = 0 as PeerId

/**
 * What an entry means to the core. Everything but configuration changes is opaque to it; `restore`
 * belongs to the runtime (`../runtime/restore-entries.ts`).
 */
export type EntryType = 'normal' | 'confChange' | 'confChangeV2' | 'restore'

/** Whether entries of this type change the configuration. */
export function isConfChange(type: EntryType): type is 'confChange' | 'confChangeV2' {
  return type === 'confChange' || type === 'confChangeV2'
}

/** One log entry. `data` is never mutated after the entry is made. */
export interface Entry {
  readonly index: Index
  readonly term: Term
  readonly type: EntryType
  readonly data: Uint8Array
}

/** Where an entry stands. */
export interface EntryId {
  readonly term: Term
  readonly index: Index
}

/** What must be durable before any message that depends on it leaves. */
export interface HardState {
  readonly term: Term
  readonly vote: PeerId
  readonly commit: Index
}

/** Membership as the core uses it. All lists ascending. */
export interface ConfState {
  readonly voters: readonly PeerId[]
  /** The outgoing half of a joint configuration; empty when not joint. */
  readonly votersOutgoing: readonly PeerId[]
  readonly learners: readonly PeerId[]
  /** Voters that become learners when the joint configuration is left. */
  readonly learnersNext: readonly PeerId[]
  readonly autoLeave: boolean
}

/** Where a snapshot stands, and the configuration in force there. */
export interface SnapshotMetadata {
  readonly index: Index
  readonly term: Term
  readonly conf: ConfState
}

/**
 * A snapshot as the core sees it. `data` is used by tests and the script harness; the runtime
 * streams.
 */
export interface Snapshot {
  readonly metadata: SnapshotMetadata
  readonly data?: Uint8Array
}

/** One step of a configuration change. */
export interface ConfChangeSingle {
  readonly type: 'addVoter' | 'addLearner' | 'remove' | 'update'
  readonly peer: PeerId
}

/** A configuration change; empty `changes` leaves a joint configuration. */
export interface ConfChange {
  readonly transition: 'auto' | 'implicit' | 'explicit'
  readonly changes: readonly ConfChangeSingle[]
  /** Opaque to the core; the runtime keeps ids and addresses here. */
  readonly context?: Uint8Array
}
