/** What a `Raft` is made with: options with their defaults, and the limits of the runtime. */
import { SwarmError } from '../../base/errors.ts'
import type { Clock } from '../../base/clock.ts'
import type { Logger } from '../../base/log.ts'
import type { Random } from '../../base/random.ts'
import type { LogStore, SnapshotStore } from '../storage/ports.ts'
import type { MetricsSink } from './metrics.ts'
import type { ServerId, StateMachine, Transport } from './ports.ts'

/** What a `Raft` works with. It opens and closes the stores and the transport. */
export interface RaftComponents<R> {
  readonly logStore: LogStore
  readonly snapshotStore: SnapshotStore
  readonly transport: Transport
  readonly stateMachine: StateMachine<R>
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  /** Takes figures; nothing is measured without. */
  readonly metrics?: MetricsSink
}

/** Options of `Raft.open`; all but the first two have defaults. */
export interface RaftOptions {
  /** This member's name. Never reused by another after removal. */
  readonly id: ServerId
  /** Where others reach this member; opaque. */
  readonly address: string
  /** Milliseconds of one tick. */
  readonly tickMs?: number
  /** Ticks without a leader before a follower campaigns, randomly up to twice as many. */
  readonly electionTicks?: number
  /** Ticks between a leader's heartbeats. */
  readonly heartbeatTicks?: number
  /**
   * Ticks between heartbeats to learners; less than `electionTicks`, best at most half of it. For
   * groups with many. Default: as for voters.
   */
  readonly learnerHeartbeatTicks?: number
  /** Entries applied since the last snapshot before the next is taken. */
  readonly snapshotThreshold?: number
  /** The same in bytes of entry data; bounds the memory that the log takes. */
  readonly snapshotThresholdBytes?: number
  /** Entries that stay in the log behind a snapshot, for members that are a little behind. */
  readonly trailingEntries?: number
  /** Bytes of entry data that stay at most behind a snapshot. */
  readonly trailingBytes?: number
  /** How long a call waits when it does not say. */
  readonly timeoutMs?: number
  /** Bytes of entries in one message to a follower, at most 512 KiB; one entry always goes. */
  readonly messageBytes?: number
  /** Bytes of entries that one durable write holds; one message's entries always go. */
  readonly writeBytes?: number
  /**
   * Lets `read` with `consistency: 'lease'` answer without a round of messages. The same on all
   * members. Its price: no fast failover when a leader's connections close, and no vote within an
   * election timeout of a start. See `lease.ts` for where the clock forbids it.
   */
  readonly leaseReads?: boolean
}

export type ResolvedRaftOptions = Required<RaftOptions>

const MEBIBYTE = 1024 * 1024

/**
 * Bytes of entries in one message to a follower, unless said otherwise (one entry always goes).
 */
export const MESSAGE_BYTES_MAX = 512 * 1024
/** Bytes of entries that one durable write holds; what is beyond waits for the next. */
export const WRITE_BYTES_MAX = 4 * MEBIBYTE

const DEFAULTS = {
  tickMs: 100,
  electionTicks: 10,
  heartbeatTicks: 1,
  snapshotThreshold: 8192,
  snapshotThresholdBytes: 32 * MEBIBYTE,
  trailingEntries: 4096,
  trailingBytes: 16 * MEBIBYTE,
  timeoutMs: 10_000,
  messageBytes: MESSAGE_BYTES_MAX,
  writeBytes: WRITE_BYTES_MAX,
  leaseReads: false,
}

/**
 * Most bytes of one command; larger is INVALID_ARGUMENT. One command must fit a transport's frame.
 */
export const COMMAND_BYTES_MAX = 2 * MEBIBYTE
/** Bytes of proposals that wait for commit; more are RESOURCE_EXHAUSTED. */
export const UNCOMMITTED_BYTES_MAX = 64 * MEBIBYTE
/** Messages, and bytes of entries, on their way to one follower. */
export const INFLIGHT_MESSAGES_MAX = 64
export const INFLIGHT_BYTES_MAX = 8 * MEBIBYTE
/** Log size at which compaction no longer waits for snapshot transfers. */
export const LOG_BYTES_MAX = 256 * MEBIBYTE
/** Milliseconds of one turn that the state machine may take. */
export const APPLY_SLICE_MS = 2
/** Entries that the state machine gets in one call, so that a slice can end. */
export const APPLY_CHUNK_ENTRIES = 64
/** A commit index alone is written when nothing else was for so long, milliseconds. */
export const COMMIT_WRITE_DELAY_MS = 500
/** Rest after a failed snapshot before the next try, milliseconds. */
export const SNAPSHOT_RETRY_MS = 30_000
/** A learner that lacks no more entries may become a voter: on a busy leader some always lack. */
export const CAUGHT_UP_ENTRIES = 100
/** Staging that makes no progress for so many election timeouts is abandoned. */
export const STAGING_STALL_ELECTIONS = 20
/** How long staging may take when the call does not say, milliseconds. */
export const STAGING_TIMEOUT_MS = 600_000
/** Bytes that `restore` takes: they travel through the log and lie in memory meanwhile. */
export const RESTORE_BYTES_MAX = 128 * MEBIBYTE
/** Bytes of one piece of a restored state. */
export const RESTORE_CHUNK_BYTES = 256 * 1024
/** Strangers (not yet or no longer members) whose names are remembered to answer them. */
export const STRANGERS_MAX = 64

/** `options` with defaults. @throws INVALID_ARGUMENT */
export function resolveRaftOptions(options: RaftOptions): ResolvedRaftOptions {
  const heartbeatTicksDefault = options.heartbeatTicks ?? DEFAULTS.heartbeatTicks
  const resolved = { ...DEFAULTS, learnerHeartbeatTicks: heartbeatTicksDefault, ...options }
  if (resolved.id === '') throw new SwarmError('INVALID_ARGUMENT', 'raft: the id is empty')
  const { electionTicks, heartbeatTicks, trailingEntries } = resolved
  for (const [name, value] of Object.entries(resolved)) {
    if (typeof value === 'number' && !(Number.isFinite(value) && value >= 0)) {
      throw new SwarmError('INVALID_ARGUMENT', `raft: ${name} is not a positive number`)
    }
  }
  if (heartbeatTicks < 1 || electionTicks <= heartbeatTicks || resolved.tickMs <= 0) {
    throw new SwarmError('INVALID_ARGUMENT', 'raft: electionTicks must exceed heartbeatTicks')
  }
  if (electionTicks <= resolved.learnerHeartbeatTicks) {
    throw new SwarmError(
      'INVALID_ARGUMENT',
      'raft: electionTicks must exceed learnerHeartbeatTicks',
    )
  }
  if (resolved.messageBytes > MESSAGE_BYTES_MAX || resolved.writeBytes > WRITE_BYTES_MAX) {
    throw new SwarmError('INVALID_ARGUMENT', 'raft: messageBytes or writeBytes is too large')
  }
  if (resolved.snapshotThreshold < 1 || !Number.isInteger(trailingEntries)) {
    throw new SwarmError('INVALID_ARGUMENT', 'raft: snapshotThreshold must be at least 1')
  }
  return resolved
}
