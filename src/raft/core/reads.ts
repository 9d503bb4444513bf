/**
 * Reads without a log entry: the leader notes its commit index, proves that it still leads, and
 * then answers (Ongaro §6.4).
 *
 * The proof is a round of heartbeats. Rounds are numbered here, ascending and never reused, so that
 * a late answer to an earlier round confirms nothing later (etcd-io/etcd#20418, reference/raft.md
 * bug 23). An answer to a round confirms all rounds before it: the member heard this leader, in
 * this term, after those reads came in.
 *
 * With leases a confirmed round also lets the leader answer at once for a while, counted from the
 * sending of the round, since its voters refuse other candidates for an election timeout after
 * hearing it. A transfer overrides that refusal, so the first TimeoutNow ends leases for the rest
 * of the term (bug 24). Source: etcd-io/raft `read_only.go`.
 */
import type { Index, PeerId } from './entry.ts'
import type { JointConfig } from './quorum.ts'

/** A read that waits for proof of leadership. */
export interface PendingRead {
  /** Who asked; this member itself for its own reads. */
  readonly from: PeerId
  /** The asker's number. */
  readonly context: number
}

/** A read that may be answered. */
export interface ConfirmedRead extends PendingRead {
  readonly index: Index
}

/** How far the rounds of a leader are, for a lease measured elsewhere. */
export interface LeaseRounds {
  /** The newest round that was sent. */
  readonly openedRound: number
  /** The newest round that a quorum has answered. */
  readonly confirmedRound: number
}

/** Reads waiting for proof; the oldest is dropped for one more, and its asker asks again. */
export const MAX_WAITING_READS = 16_384

/** Rounds remembered for the lease; forgetting the oldest only makes the lease start later. */
const MAX_OPEN_ROUNDS = 1024

interface WaitingRead extends ConfirmedRead {
  readonly round: number
}

/** Rounds of heartbeats and the reads that they prove. Exists only while leading. */
export class LeaderReads implements LeaseRounds {
  #round = 0
  #confirmed = 0
  readonly #acknowledged = new Map<PeerId, number>()
  /** Ascending by round. */
  #waiting: WaitingRead[] = []
  /** Tick at which each unconfirmed round of the lease was sent, ascending by round. */
  #sentAt: { readonly round: number; readonly tick: number }[] = []
  #leaseStart = Number.NEGATIVE_INFINITY
  #leaseForfeited = false

  get openedRound(): number {
    return this.#round
  }

  get confirmedRound(): number {
    return this.#confirmed
  }

  /** Whether leases are over for the rest of the term. */
  get leaseForfeited(): boolean {
    return this.#leaseForfeited
  }

  /** Opens a round that will be sent at `tick` and returns its number. */
  openRound(tick: number): number {
    this.#round += 1
    this.#sentAt.push({ round: this.#round, tick })
    if (this.#sentAt.length > MAX_OPEN_ROUNDS) this.#sentAt.shift()
    return this.#round
  }

  /** Lets `read`, at the commit index of now, wait for the newest round. */
  add(read: PendingRead, index: Index): void {
    this.#waiting.push({ ...read, index, round: this.#round })
    if (this.#waiting.length > MAX_WAITING_READS) this.#waiting.shift()
  }

  /** The newest round that a read waits for; 0 if none does. */
  get pendingRound(): number {
    return this.#waiting.at(-1)?.round ?? 0
  }

  /** `peer` answered `round`. */
  acknowledge(peer: PeerId, round: number): void {
    if (round > (this.#acknowledged.get(peer) ?? 0)) this.#acknowledged.set(peer, round)
  }

  /** Takes out the reads that a quorum of `voters` has confirmed; `self` always agrees. */
  confirm(voters: JointConfig, self: PeerId): readonly ConfirmedRead[] {
    const quorum = voters.committedIndex((id) =>
      id === self ? this.#round : this.#acknowledged.get(id),
    )
    const confirmed = Math.min(quorum, this.#round)
    if (confirmed <= this.#confirmed) return []
    this.#confirmed = confirmed
    const sent = this.#sentAt.findLast(({ round }) => round <= confirmed)
    if (sent !== undefined) this.#leaseStart = sent.tick
    this.#sentAt = this.#sentAt.filter(({ round }) => round > confirmed)
    const done = this.#waiting.filter(({ round }) => round <= confirmed)
    this.#waiting = this.#waiting.filter(({ round }) => round > confirmed)
    return done
  }

  /** Whether a lease of `leaseTicks` holds at `tick`. */
  holdsLease(tick: number, leaseTicks: number): boolean {
    return !this.#leaseForfeited && tick - this.#leaseStart < leaseTicks
  }

  /** No leases any more: another member was told to campaign regardless. */
  forfeitLease(): void {
    this.#leaseForfeited = true
  }
}
