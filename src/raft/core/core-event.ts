/**
 * What the core finds worth telling, as data. The core does not log: the runtime turns events into
 * structured log lines and metrics, the script harness into etcd's wording.
 */
import type { ConfChange, ConfState, EntryId, Index, PeerId, Term } from './entry.ts'
import type { MessageType } from './message.ts'
import type { Role } from './ready.ts'
import type { ProgressStatus } from './status.ts'

/** A snapshot's position. */
export type SnapshotId = EntryId

/** Elections and roles. */
export type ElectionEvent =
  | { readonly type: 'roleChanged'; readonly role: Role; readonly term: Term }
  | { readonly type: 'electionStarted'; readonly term: Term }
  | {
      readonly type: 'campaignRefused'
      readonly reason: 'leader' | 'unpromotable' | 'unappliedConfChange' | 'lease'
      readonly term: Term
    }
  | {
      readonly type: 'voteRequested'
      readonly kind: 'vote' | 'preVote'
      readonly to: PeerId
      readonly last: EntryId
      readonly term: Term
    }
  | {
      readonly type: 'voteAnswered'
      /** `ignored`: a leader was heard of within its lease, which lasts `leaseTicks` more. */
      readonly decision: 'granted' | 'refused' | 'ignored'
      readonly kind: 'vote' | 'preVote'
      readonly candidate: PeerId
      readonly candidateLast: EntryId
      readonly last: EntryId
      readonly vote: PeerId
      readonly term: Term
      readonly leaseTicks: number
    }
  | {
      readonly type: 'voteReceived'
      readonly kind: 'voteResp' | 'preVoteResp'
      readonly from: PeerId
      readonly granted: boolean
      readonly term: Term
    }
  | {
      readonly type: 'votesCounted'
      readonly kind: 'voteResp' | 'preVoteResp'
      readonly granted: number
      readonly rejected: number
    }
  | { readonly type: 'quorumLost'; readonly term: Term }
  | { readonly type: 'leaderForgotten'; readonly leader: PeerId; readonly term: Term }
  | { readonly type: 'forgetLeaderRefused' }

/** Messages of other terms. */
export type TermEvent =
  | {
      /** `stale`: durable entries that a later term may have replaced. */
      readonly type: 'higherTerm' | 'lowerTermIgnored' | 'staleAppendIgnored'
      readonly message: MessageType
      readonly from: PeerId
      readonly messageTerm: Term
      readonly term: Term
    }
  | {
      /** Not forwarded: there is no leader to forward it to. */
      readonly type: 'noLeader'
      readonly message: 'prop' | 'transferLeader' | 'readIndex'
      readonly term: Term
    }

/** Proposals. */
export type ProposalEvent =
  | {
      readonly type: 'proposalDropped'
      readonly reason: 'forwardingDisabled' | 'transfer' | 'uncommittedBytes' | 'removed'
      /** The leader, or who is to be it. */
      readonly peer: PeerId
      readonly term: Term
    }
  | {
      readonly type: 'confChangeIgnored'
      readonly entryType: 'confChange' | 'confChangeV2'
      readonly change: ConfChange
      readonly conf: ConfState
      readonly reason: string
    }

/** Replication. */
export type ReplicationEvent =
  | {
      readonly type: 'appendRefused'
      readonly from: PeerId
      readonly at: EntryId
      readonly ownTerm: Term
    }
  | {
      readonly type: 'appendRefusal'
      readonly from: PeerId
      readonly index: Index
      readonly hint: EntryId
    }
  | {
      readonly type:
        | 'progressDecreased'
        | 'replicationPaused'
        | 'snapshotAcknowledged'
        | 'peerUnreachable'
      readonly peer: PeerId
      readonly progress: ProgressStatus
    }
  | { readonly type: 'noProgress'; readonly peer: PeerId }
  | {
      readonly type: 'snapshotReported'
      readonly peer: PeerId
      readonly ok: boolean
      readonly progress: ProgressStatus
    }
  | {
      readonly type: 'snapshotSent'
      readonly peer: PeerId
      readonly snapshot: SnapshotId
      readonly firstIndex: Index
      readonly commit: Index
      readonly progress: ProgressStatus
    }
  | {
      readonly type: 'snapshotNotSent'
      readonly peer: PeerId
      readonly reason: 'inactive' | 'unavailable'
    }
  /** The log view answered `unavailable`; the next heartbeat's answer tries again. */
  | { readonly type: 'entriesUnavailable'; readonly peer: PeerId; readonly next: Index }

/** The log. */
export type LogEvent =
  | {
      readonly type: 'conflictFound'
      readonly index: Index
      readonly existingTerm: Term
      readonly conflictingTerm: Term
    }
  | { readonly type: 'unstableReplaced' | 'unstableTruncated'; readonly from: Index }
  | {
      /** A storage completion that no longer matters; `entry` is what is there now. */
      readonly type: 'stableIgnored'
      readonly reason: 'missing' | 'snapshot' | 'mismatch'
      readonly id: EntryId
      readonly entryTerm: Term
    }
  | {
      readonly type: 'logRestoring'
      readonly snapshot: SnapshotId
      readonly committed: Index
      readonly applied: Index
      readonly applying: Index
      readonly offset: Index
      readonly offsetInProgress: Index
      readonly unstableLength: number
    }
  | {
      readonly type: 'snapshotRestored' | 'snapshotFastForwarded'
      readonly snapshot: SnapshotId
      readonly commit: Index
      readonly last: EntryId
    }
  | {
      readonly type: 'snapshotInstalled' | 'snapshotIgnored'
      readonly snapshot: SnapshotId
      readonly commit: Index
    }
  | {
      readonly type: 'snapshotRefused'
      readonly reason: 'role' | 'notMember'
      /** The snapshot's. */
      readonly conf: ConfState
    }

/** Membership and hand-over. */
export type MembershipEvent =
  | { readonly type: 'configurationChanged'; readonly conf: ConfState }
  | { readonly type: 'autoLeave'; readonly conf: ConfState; readonly proposed: boolean }
  | {
      readonly type: 'transfer'
      readonly phase:
        | 'started'
        | 'repeated'
        | 'replaced'
        | 'toSelf'
        | 'toLearner'
        | 'upToDate'
        | 'caughtUp'
      readonly peer: PeerId
      readonly term: Term
    }
  | {
      readonly type: 'timeoutNow'
      readonly from: PeerId
      readonly term: Term
      readonly role: Role
      readonly obeyed: boolean
    }
  | {
      readonly type: 'restored'
      readonly voters: readonly PeerId[]
      readonly term: Term
      readonly commit: Index
      readonly applied: Index
      readonly last: EntryId
    }

/** One thing told, by the member `CoreOptions.id`. */
export type CoreEvent =
  | ElectionEvent
  | TermEvent
  | ProposalEvent
  | ReplicationEvent
  | LogEvent
  | MembershipEvent
