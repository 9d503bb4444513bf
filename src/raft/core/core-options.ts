/**
 * What a core is made with. Times are ticks, sizes are bytes of entry data, `undefined` limits are
 * unlimited. Source: etcd-io/raft `raft.go` (`Config`), in its semantics.
 */
import { assert } from '../../base/assert.ts'
import type { Random } from '../../base/random.ts'
import type { CoreEvent } from './core-event.ts'
import { NO_PEER, type Entry, type Index, type PeerId } from './entry.ts'

/** How read indexes are confirmed: by a round of heartbeats, or by the leader's lease. */
export type ReadOnlyMode = 'safe' | 'lease'

/** Options of `RaftCore.restore`. */
export interface CoreOptions {
  /** This member. */
  readonly id: PeerId
  /** A follower campaigns after [electionTicks, 2 * electionTicks) without a leader. */
  readonly electionTicks: number
  /** A leader sends heartbeats at this interval; less than `electionTicks`. */
  readonly heartbeatTicks: number
  /**
   * Beyond etcd: learners get a heartbeat only this often, and none for reads, which need no word
   * of theirs. Less than `electionTicks`; by default as everybody.
   */
  readonly learnerHeartbeatTicks?: number
  /** Draws election timeouts. */
  readonly random: Random
  /** Last index that the state machine holds already; entries up to it are not handed out again. */
  readonly applied?: Index
  /** Writes are messages to an append and an apply thread; then `advance` is never called. */
  readonly asyncStorageWrites?: boolean
  /** Ask whether an election could be won before the term grows. */
  readonly preVote?: boolean
  /** A leader without contact to a quorum steps down; members that hear a leader refuse votes. */
  readonly checkQuorum?: boolean
  /** Default `safe`; `lease` needs `checkQuorum`. */
  readonly readOnly?: ReadOnlyMode
  /**
   * Ticks for which a confirmed round of heartbeats lets a leader answer reads alone, from its
   * sending. At most, and by default, `electionTicks - 2`: a tick may have begun on either side.
   */
  readonly leaseTicks?: number
  /** Entry bytes in one append message; one entry always goes. 0: one entry each. */
  readonly maxBytesPerMessage?: number
  /** Bytes of committed entries handed out in one `Ready` (one entry always goes). */
  readonly maxCommittedBytesPerReady?: number
  /** Proposals are dropped while more bytes than this wait for commit. */
  readonly maxUncommittedBytes?: number
  /** Append messages on their way to one follower. Default {@link DEFAULT_INFLIGHT_MESSAGES}. */
  readonly maxInflightMessages?: number
  /** Entry bytes on their way to one follower. */
  readonly maxInflightBytes?: number
  /** A follower drops proposals instead of forwarding them to the leader. */
  readonly disableProposalForwarding?: boolean
  /**
   * Appends configuration changes that would be refused. For applications that check themselves.
   */
  readonly disableConfChangeValidation?: boolean
  /** A leader that is removed or demoted steps down when the change is applied. */
  readonly stepDownOnRemoval?: boolean
  /**
   * Beyond etcd: members learn of committed configuration changes from votes, and one that may not
   * campaign and hears no leader tells the voters of them. Without it a group can be stuck for ever
   * when its leader demotes or removes itself and is gone before the others know that this is
   * committed.
   */
  readonly informVoters?: boolean
  /**
   * A candidate that the votes of others suffice for leads although its own is not on disk yet, as
   * in etcd. Unsafe with asynchronous storage writes: after a crash it may be elected in the same
   * term again, with another log. For scripts that expect etcd's behaviour.
   */
  readonly leadsBeforeOwnVote?: boolean
  /** Size of an entry against the byte limits. Default: the length of its data. */
  readonly entrySize?: (entry: Pick<Entry, 'type' | 'data'>) => number
  /** Told of everything worth a log line, synchronously; must not call the core. */
  readonly onEvent?: (event: CoreEvent) => void
}

/** Options with every default filled in. */
export interface ResolvedOptions extends Required<CoreOptions> {}

/** Append messages in flight to one follower when the options do not say; etcd's usual value. */
export const DEFAULT_INFLIGHT_MESSAGES = 256

/** A size limit that never binds. */
export const UNLIMITED = Number.MAX_SAFE_INTEGER

const DEFAULTS = {
  applied: 0,
  asyncStorageWrites: false,
  preVote: false,
  checkQuorum: false,
  readOnly: 'safe' as ReadOnlyMode,
  maxBytesPerMessage: UNLIMITED,
  maxUncommittedBytes: UNLIMITED,
  maxInflightMessages: DEFAULT_INFLIGHT_MESSAGES,
  maxInflightBytes: UNLIMITED,
  disableProposalForwarding: false,
  disableConfChangeValidation: false,
  stepDownOnRemoval: false,
  informVoters: false,
  leadsBeforeOwnVote: false,
  entrySize: (entry: Pick<Entry, 'data'>): number => entry.data.length,
  onEvent: (): void => undefined,
}

/** Checks `options` and fills in defaults. A contradiction is a programmer's mistake. */
export function resolveOptions(options: CoreOptions): ResolvedOptions {
  const resolved = {
    ...DEFAULTS,
    learnerHeartbeatTicks: options.heartbeatTicks,
    leaseTicks: Math.max(0, options.electionTicks - 2),
    maxCommittedBytesPerReady: options.maxBytesPerMessage ?? UNLIMITED,
    ...options,
  }
  assert(Number.isSafeInteger(options.id) && options.id > NO_PEER, 'id is a positive integer')
  assert(resolved.heartbeatTicks > 0, 'heartbeatTicks is positive')
  assert(resolved.electionTicks > resolved.heartbeatTicks, 'electionTicks exceeds heartbeatTicks')
  assert(
    resolved.electionTicks > resolved.learnerHeartbeatTicks,
    'electionTicks exceeds learnerHeartbeatTicks',
  )
  assert(resolved.maxInflightMessages > 0, 'maxInflightMessages is positive')
  assert(
    resolved.maxInflightBytes >= Math.min(resolved.maxBytesPerMessage, resolved.maxInflightBytes),
    'maxInflightBytes holds one message',
  )
  assert(resolved.readOnly === 'safe' || resolved.checkQuorum, 'lease reads need checkQuorum')
  return resolved
}
