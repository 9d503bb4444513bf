/** What the core tells about itself. Copies, safe to keep. Source: etcd-io/raft `status.go`. */
import type { ConfState, HardState, Index, PeerId } from './entry.ts'
import type { SoftState } from './ready.ts'

/** How a leader replicates to one member. */
export type ProgressMode = 'probe' | 'replicate' | 'snapshot'

/** A leader's view of one member. */
export interface ProgressStatus {
  readonly mode: ProgressMode
  /** Last index known to be durable there. */
  readonly match: Index
  /** Next index to send. */
  readonly next: Index
  /** Index of the snapshot on its way; 0 unless `mode` is `snapshot`. */
  readonly pendingSnapshot: Index
  /** Heard from within the last election timeout. */
  readonly recentActive: boolean
  /** Nothing is sent until an answer comes. */
  readonly paused: boolean
  readonly isLearner: boolean
  /** Append messages on their way. */
  readonly inflight: number
  /** Whether the window is used up. */
  readonly inflightFull: boolean
}

/** The state of a core at one moment. */
export interface CoreStatus extends SoftState {
  readonly id: PeerId
  readonly hard: HardState
  readonly applied: Index
  readonly lastIndex: Index
  readonly conf: ConfState
  /** Whom leadership is being handed to; 0 when no transfer runs. */
  readonly transferee: PeerId
  /** Ascending by member; empty unless leader. */
  readonly progress: ReadonlyMap<PeerId, ProgressStatus>
}
