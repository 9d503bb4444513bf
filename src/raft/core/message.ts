/**
 * Messages: between members, from the runtime to the core (local), and to and from the storage
 * threads when writes are asynchronous. A union of literals, each with the fields that its kind
 * has. Source: etcd-io/raft `raftpb/raft.proto` (`MessageType`), `doc.go`.
 */
import type { Entry, EntryId, HardState, Index, PeerId, Snapshot, Term } from './entry.ts'

interface Envelope {
  readonly from: PeerId
  readonly to: PeerId
  /** 0 for local messages and proposals. */
  readonly term: Term
}

/** What may travel with votes, in both directions. */
interface CommitNews {
  /**
   * The last entry that the sender knows to be committed: whoever has it may commit it too. Frees a
   * member that would campaign in a configuration which the others have left.
   */
  readonly committed?: EntryId
}

/** Asks for a (pre-)vote. `transfer` overrides leader stickiness. */
export interface VoteRequest extends Envelope, CommitNews {
  readonly type: 'vote' | 'preVote'
  readonly logTerm: Term
  readonly index: Index
  readonly transfer: boolean
}

export interface VoteResponse extends Envelope, CommitNews {
  readonly type: 'voteResp' | 'preVoteResp'
  readonly reject: boolean
}

/** Replication. `index`/`logTerm` name the entry before `entries[0]`. */
export interface AppendRequest extends Envelope {
  readonly type: 'app'
  readonly logTerm: Term
  readonly index: Index
  readonly entries: readonly Entry[]
  readonly commit: Index
}

export interface AppendResponse extends Envelope {
  readonly type: 'appResp'
  /** Accepted: last index known to match. Rejected: the request's `index`. */
  readonly index: Index
  readonly reject: boolean
  /** On rejection: where the follower suggests to try, and its term there. */
  readonly rejectHint: Index
  readonly logTerm: Term
  /** The follower's commit index (etcd sends it for lagging-commit detection). */
  readonly commit: Index
}

export interface HeartbeatRequest extends Envelope {
  readonly type: 'heartbeat'
  readonly commit: Index
  /** Read-index round being confirmed; 0 = none. */
  readonly context: number
}

export interface HeartbeatResponse extends Envelope {
  readonly type: 'heartbeatResp'
  readonly context: number
}

export interface SnapshotRequest extends Envelope {
  readonly type: 'snap'
  readonly snapshot: Snapshot
}

export interface TimeoutNow extends Envelope {
  readonly type: 'timeoutNow'
}

/** `from` is who wants to lead (a follower forwards it to the leader). */
export interface TransferLeader extends Envelope {
  readonly type: 'transferLeader'
}

/** Proposals, possibly forwarded by a follower. */
export interface Proposal extends Envelope {
  readonly type: 'prop'
  readonly entries: readonly ProposedEntry[]
}

/** An entry before it has a place in the log. */
export type ProposedEntry = Pick<Entry, 'type' | 'data'>

export interface ReadIndexRequest extends Envelope {
  readonly type: 'readIndex'
  /** The asker's own number for the read; never reused by it. */
  readonly context: number
}

export interface ReadIndexResponse extends Envelope {
  readonly type: 'readIndexResp'
  readonly index: Index
  readonly context: number
}

interface Local<T extends string> extends Envelope {
  readonly type: T
}

/** Local messages: from the runtime to its own core. */
export type LocalMessage =
  | Local<'hup'>
  | Local<'beat'>
  | Local<'checkQuorum'>
  | Local<'unreachable'>
  | Local<'forgetLeader'>

/** The runtime tells how a snapshot to `from` ended. */
export interface SnapshotStatus extends Envelope {
  readonly type: 'snapStatus'
  readonly reject: boolean
}

/** To the append thread: make these durable, then deliver `responses`. */
export interface StorageAppend extends Envelope {
  readonly type: 'storageAppend'
  readonly logTerm: Term
  readonly index: Index
  readonly entries: readonly Entry[]
  readonly hardState?: HardState
  readonly snapshot?: Snapshot
  readonly responses: readonly Message[]
}

/** From the append thread: durable up to (`index`, `logTerm`); ignored when stale. */
export interface StorageAppendResponse extends Envelope {
  readonly type: 'storageAppendResp'
  readonly logTerm: Term
  readonly index: Index
  readonly snapshot?: Snapshot
}

/** To the apply thread: apply these, then deliver `responses`. */
export interface StorageApply extends Envelope {
  readonly type: 'storageApply'
  readonly entries: readonly Entry[]
  readonly responses: readonly Message[]
}

export interface StorageApplyResponse extends Envelope {
  readonly type: 'storageApplyResp'
  readonly entries: readonly Entry[]
}

/** Any message. */
export type Message =
  | VoteRequest
  | VoteResponse
  | AppendRequest
  | AppendResponse
  | HeartbeatRequest
  | HeartbeatResponse
  | SnapshotRequest
  | TimeoutNow
  | TransferLeader
  | Proposal
  | ReadIndexRequest
  | ReadIndexResponse
  | LocalMessage
  | SnapshotStatus
  | StorageAppend
  | StorageAppendResponse
  | StorageApply
  | StorageApplyResponse

export type MessageType = Message['type']

/** Addressee of `storageAppend` messages. */
export const APPEND_THREAD = -1 as PeerId
/** Addressee of `storageApply` messages. */
export const APPLY_THREAD = -2 as PeerId

/** Messages of certain kinds. */
export type MessageOf<T extends MessageType> = Message & { readonly type: T }

/** A guard that tells the messages of certain kinds from the rest. */
export function isOneOf<const T extends MessageType>(
  types: readonly T[],
): (message: Message) => message is MessageOf<T> {
  const set: ReadonlySet<MessageType> = new Set<MessageType>(types)
  return (message): message is MessageOf<T> => set.has(message.type)
}
