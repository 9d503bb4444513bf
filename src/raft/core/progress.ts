/**
 * A leader's view of one member: what it has, what goes next, and whether more may be sent.
 *
 *            rejected, unreachable
 *          +-----------------------+
 *          v                       |
 *        probe --- accepted --> replicate
 *          |  ^                    |
 *   log    |  | snapshot done      | log compacted
 * compacted|  | or failed          |
 *          v  |                    |
 *        snapshot <----------------+
 *
 * Invariants: match < next. In `probe` at most one message with entries is on its way. In
 * `snapshot` nothing is sent, and next = pendingSnapshot + 1.
 * Source: etcd-io/raft `tracker/progress.go`, in its semantics.
 */
import type { Index } from './entry.ts'
import type { Inflights } from './inflights.ts'
import type { ProgressMode, ProgressStatus } from './status.ts'

/** Replication to one member. Owned by the tracker of the leader. */
export class Progress {
  /** Last index known to be durable at the member. */
  match: Index = 0
  /** Next index to send. */
  next: Index
  mode: ProgressMode = 'probe'
  /** Index of the snapshot on its way; 0 unless `mode` is `snapshot`. */
  pendingSnapshot: Index = 0
  /** Heard from since the last quorum check. */
  recentActive = false
  /** Nothing is sent until an answer or a heartbeat's answer comes. */
  flowPaused = false
  isLearner: boolean
  readonly inflights: Inflights
  /** Highest commit index on its way or there; regresses when it was probably lost. */
  #sentCommit: Index = 0

  constructor(next: Index, inflights: Inflights, isLearner: boolean) {
    this.next = next
    this.inflights = inflights
    this.isLearner = isLearner
  }

  becomeProbe(): void {
    const installed = this.mode === 'snapshot' ? this.pendingSnapshot : 0
    this.#enter('probe')
    this.next = Math.max(this.match, installed) + 1
    this.#forgetCommit()
  }

  becomeReplicate(): void {
    this.#enter('replicate')
    this.next = this.match + 1
  }

  becomeSnapshot(index: Index): void {
    this.#enter('snapshot')
    this.pendingSnapshot = index
    this.next = index + 1
    this.#sentCommit = index
  }

  get isPaused(): boolean {
    return this.mode === 'snapshot' || this.flowPaused
  }

  /** An append with `count` entries of `bytes` was sent. Not in `snapshot`. */
  sentEntries(count: number, bytes: number): void {
    if (this.mode === 'probe') {
      this.flowPaused ||= count > 0
      return
    }
    if (count > 0) {
      this.next += count
      this.inflights.add(this.next - 1, bytes)
    }
    this.flowPaused = this.inflights.full
  }

  sentCommit(index: Index): void {
    this.#sentCommit = index
  }

  /** Whether sending `index` now tells the member of a commit that no message on its way tells. */
  canBumpCommit(index: Index): boolean {
    return index > this.#sentCommit && this.#sentCommit < this.next - 1
  }

  /** The member has everything up to `index`. Returns false if that is not news. */
  maybeUpdate(index: Index): boolean {
    if (index <= this.match) return false
    this.match = index
    this.next = Math.max(this.next, index + 1)
    this.flowPaused = false
    return true
  }

  /**
   * The member refused the append after `rejected` and suggests `hint`. Returns false if the
   * refusal is stale: it names what is already matched, or not what is being probed.
   */
  maybeDecrease(rejected: Index, hint: Index): boolean {
    if (this.mode === 'replicate') {
      if (rejected <= this.match) return false
      this.next = this.match + 1
    } else {
      if (this.next - 1 !== rejected) return false
      this.next = Math.max(Math.min(rejected, hint + 1), this.match + 1)
      this.flowPaused = false
    }
    this.#forgetCommit()
    return true
  }

  /** An independent copy. */
  clone(): Progress {
    const copy = new Progress(this.next, this.inflights.clone(), this.isLearner)
    copy.match = this.match
    copy.mode = this.mode
    copy.pendingSnapshot = this.pendingSnapshot
    copy.recentActive = this.recentActive
    copy.flowPaused = this.flowPaused
    copy.#sentCommit = this.#sentCommit
    return copy
  }

  status(): ProgressStatus {
    return {
      mode: this.mode,
      match: this.match,
      next: this.next,
      pendingSnapshot: this.pendingSnapshot,
      recentActive: this.recentActive,
      paused: this.isPaused,
      isLearner: this.isLearner,
      inflight: this.inflights.count,
      inflightFull: this.inflights.full,
    }
  }

  #enter(mode: ProgressMode): void {
    this.flowPaused = false
    this.pendingSnapshot = 0
    this.mode = mode
    this.inflights.reset()
  }

  #forgetCommit(): void {
    this.#sentCommit = Math.min(this.#sentCommit, this.next - 1)
  }
}
