/**
 * A leader's lease in real time. Who answered a round of heartbeats votes for nobody else within an
 * election timeout of hearing it; so from the *sending* of a round that a quorum answered, no other
 * leader can exist for nearly that long, and this one may answer reads alone.
 *
 * - Measured on the monotonic clock at the moment of the read: a leader that was stopped for a
 *   while finds its lease over, whatever its ticks say (sofa-jraft 25/34, reference/raft.md bug
 *   24).
 * - A round is dated before it is sent, or earlier.
 * - Two ticks less than the election timeout, since ticks have begun on either side; and less again
 *   for clocks that run at different speeds.
 * - Over when a transfer begins, for the rest of the term: its target is voted for regardless (the
 *   core gives no rounds then). Over when the configuration changes, until a round of the new one
 *   is confirmed.
 * Limit: where the monotonic clock stands still while the machine sleeps (a suspended laptop, a
 * paused virtual machine), a lease outlives its time. Do not use it there.
 * Source: Ongaro §6.4.1; etcd-io/raft `ReadOnlyLeaseBased`.
 */
import type { Clock } from '../../base/clock.ts'
import type { Term } from '../core/entry.ts'
import type { RaftCore } from '../core/raft-core.ts'
import type { LeaseRounds } from '../core/reads.ts'
import type { ResolvedRaftOptions } from './options.ts'

/** Ticks that may be shorter than they are long: one here, one at the follower. */
const EDGE_TICKS = 2
/** Part of the lease given away for clocks that differ in speed. */
const DRIFT_PART = 0.1
/** Rounds that wait for confirmation; forgetting the oldest makes the lease start later. */
const ROUNDS_MAX = 64

interface Sent {
  readonly round: number
  /** Not later than its sending, monotonic milliseconds. */
  readonly atMs: number
}

/** Dates rounds of heartbeats, and says whether the lease holds. */
export class Lease {
  #term: Term = 0
  /** Ascending by round. */
  #sent: Sent[] = []

  /** All rounds above the last noted, up to `rounds.openedRound`, were sent at `atMs` or later. */
  note(term: Term, rounds: LeaseRounds, atMs: number): void {
    this.#enter(term)
    const round = rounds.openedRound
    if (round <= (this.#sent.at(-1)?.round ?? 0)) return
    this.#sent.push({ round, atMs })
    this.#dropUseless(rounds.confirmedRound)
  }

  /** The voters changed: what the old ones confirmed counts no more. */
  forget(): void {
    this.#sent = []
  }

  /** Whether a lease of `durationMs` holds at `nowMs`. */
  isHeld(
    term: Term,
    rounds: LeaseRounds,
    { nowMs, durationMs }: { readonly nowMs: number; readonly durationMs: number },
  ): boolean {
    this.#enter(term)
    const start = this.#sent.findLast(({ round }) => round <= rounds.confirmedRound)
    return start !== undefined && nowMs - start.atMs < durationMs
  }

  #enter(term: Term): void {
    if (term === this.#term) return
    this.#term = term
    this.#sent = []
  }

  /** Of the confirmed rounds only the newest matters. */
  #dropUseless(confirmed: number): void {
    const newest = this.#sent.findLastIndex(({ round }) => round <= confirmed)
    if (newest > 0) this.#sent.splice(0, newest)
    if (this.#sent.length > ROUNDS_MAX) this.#sent.shift()
  }
}

/** What a lease is measured with. */
interface LeaseComponents {
  readonly clock: Clock
  readonly core: Pick<RaftCore, 'term' | 'leaseRounds'>
}

type LeaseOptions = Pick<ResolvedRaftOptions, 'leaseReads' | 'tickMs' | 'electionTicks'>

/** The lease of a member while it leads. */
export class LeaderLease {
  readonly #components: LeaseComponents
  readonly #lease = new Lease()

  constructor(components: LeaseComponents) {
    this.#components = components
  }

  /**
   * After a tick that began at `startMs`: its heartbeats were sent since. `openedRound` was the
   * newest round before it: a round for a read may have been sent long ago, if this process was
   * stopped since, and gets no date.
   */
  onTick(
    { leaseReads }: LeaseOptions,
    {
      startMs,
      openedRound,
    }: { readonly startMs: number; readonly openedRound: number | undefined },
  ): void {
    if (!leaseReads) return
    const { term, leaseRounds } = this.#components.core
    if (leaseRounds === undefined || openedRound === undefined) return
    if (leaseRounds.openedRound > openedRound) this.#lease.note(term, leaseRounds, startMs)
  }

  /** The voters changed. */
  forget(): void {
    this.#lease.forget()
  }

  /** Whether the lease holds at this moment; that of an only voter always does. */
  isHeld({ leaseReads, tickMs, electionTicks }: LeaseOptions, isOnlyVoter: boolean): boolean {
    const { term, leaseRounds } = this.#components.core
    if (!leaseReads || leaseRounds === undefined) return false
    if (isOnlyVoter) return true
    const nowMs = this.#components.clock.monotonicMs()
    const durationMs = leaseDurationMs(tickMs, electionTicks)
    return this.#lease.isHeld(term, leaseRounds, { nowMs, durationMs })
  }
}

/** How long a lease lasts from the sending of its round, milliseconds. */
export function leaseDurationMs(tickMs: number, electionTicks: number): number {
  return Math.max(0, electionTicks - EDGE_TICKS) * tickMs * (1 - DRIFT_PART)
}
