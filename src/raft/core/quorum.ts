/**
 * Quorums: what a majority, or two majorities at once, agree on.
 *
 * A joint configuration decides only what both halves decide (Ongaro §4.3). An empty half agrees
 * with everything, so that a plain configuration is a joint one with an empty outgoing half.
 * Source: etcd-io/raft `quorum/majority.go`, `quorum/joint.go`.
 */
import { at } from '../../base/assert.ts'
import type { Index, PeerId } from './entry.ts'

/** What an election has come to. */
export type VoteResult = 'pending' | 'lost' | 'won'

/** Index that the member acknowledged; `undefined` when nothing is known. */
export type AckedIndex = (peer: PeerId) => Index | undefined

/** Numbers in ascending order, as a new list. */
export function ascending(peers: Iterable<PeerId>): PeerId[] {
  return [...peers].toSorted((a, b) => a - b)
}

/** A set of voters that decides by majority. Immutable. */
export class MajorityConfig {
  /** Ascending. */
  readonly ids: readonly PeerId[]
  readonly #members: ReadonlySet<PeerId>

  constructor(ids: Iterable<PeerId> = []) {
    this.#members = new Set(ids)
    this.ids = ascending(this.#members)
  }

  get size(): number {
    return this.ids.length
  }

  has(peer: PeerId): boolean {
    return this.#members.has(peer)
  }

  /** The highest index that a majority acknowledged; infinite for the empty set. */
  committedIndex(acked: AckedIndex): Index {
    if (this.size === 0) return Number.POSITIVE_INFINITY
    const indexes = this.ids.map((id) => acked(id) ?? 0).toSorted((a, b) => a - b)
    return at(indexes, this.size - (Math.floor(this.size / 2) + 1))
  }

  /** The outcome of an election with these votes so far; won for the empty set. */
  voteResult(votes: ReadonlyMap<PeerId, boolean>): VoteResult {
    if (this.size === 0) return 'won'
    const quorum = Math.floor(this.size / 2) + 1
    let granted = 0
    let missing = 0
    for (const id of this.ids) {
      const vote = votes.get(id)
      if (vote === undefined) missing += 1
      else if (vote) granted += 1
    }
    if (granted >= quorum) return 'won'
    return granted + missing >= quorum ? 'pending' : 'lost'
  }
}

/** Two majorities of which both must agree. Immutable. */
export class JointConfig {
  readonly incoming: MajorityConfig
  /** Empty unless a joint change is under way. */
  readonly outgoing: MajorityConfig
  /** Members of either half, ascending. */
  readonly ids: readonly PeerId[]

  constructor(incoming = new MajorityConfig(), outgoing = new MajorityConfig()) {
    this.incoming = incoming
    this.outgoing = outgoing
    this.ids = outgoing.size === 0 ? incoming.ids : union(incoming.ids, outgoing.ids)
  }

  get isJoint(): boolean {
    return this.outgoing.size > 0
  }

  /** Whether the leader's own word is a quorum. */
  get isSingleton(): boolean {
    return this.incoming.size === 1 && !this.isJoint
  }

  has(peer: PeerId): boolean {
    return this.incoming.has(peer) || this.outgoing.has(peer)
  }

  /** The highest index that both majorities acknowledged. */
  committedIndex(acked: AckedIndex): Index {
    return Math.min(this.incoming.committedIndex(acked), this.outgoing.committedIndex(acked))
  }

  /** Lost as soon as one half lost; won when both won. */
  voteResult(votes: ReadonlyMap<PeerId, boolean>): VoteResult {
    const first = this.incoming.voteResult(votes)
    const second = this.outgoing.voteResult(votes)
    if (first === second) return first
    return first === 'lost' || second === 'lost' ? 'lost' : 'pending'
  }
}

function union(a: readonly PeerId[], b: readonly PeerId[]): PeerId[] {
  return ascending(new Set([...a, ...b]))
}
