/**
 * The configuration in force and the progress of its members. Every member of the configuration has
 * a progress and nobody else has. Source: etcd-io/raft `tracker/tracker.go`.
 */
import type { ConfState, Index, PeerId } from './entry.ts'
import { Inflights } from './inflights.ts'
import { Progress } from './progress.ts'
import { ascending, JointConfig } from './quorum.ts'

/** Who votes and who learns. Immutable. */
export interface Membership {
  readonly voters: JointConfig
  readonly learners: ReadonlySet<PeerId>
  /** Voters of the outgoing half that become learners when the joint configuration is left. */
  readonly learnersNext: ReadonlySet<PeerId>
  readonly autoLeave: boolean
}

export const EMPTY_MEMBERSHIP: Membership = {
  voters: new JointConfig(),
  learners: new Set(),
  learnersNext: new Set(),
  autoLeave: false,
}

/** Limits of one follower's window. */
export interface WindowLimits {
  readonly maxInflightMessages: number
  readonly maxInflightBytes: number
}

/** A membership with the progress of each member. */
export class Tracker {
  readonly limits: WindowLimits
  readonly membership: Membership
  readonly #progress: ReadonlyMap<PeerId, Progress>
  readonly #entries: readonly (readonly [PeerId, Progress])[]

  constructor(
    limits: WindowLimits,
    membership = EMPTY_MEMBERSHIP,
    progress: ReadonlyMap<PeerId, Progress> = new Map(),
  ) {
    this.limits = limits
    this.membership = membership
    this.#progress = progress
    this.#entries = [...progress].toSorted(([a], [b]) => a - b)
  }

  progress(peer: PeerId): Progress | undefined {
    return this.#progress.get(peer)
  }

  /** Members and their progress, ascending: the order in which messages are sent. */
  entries(): readonly (readonly [PeerId, Progress])[] {
    return this.#entries
  }

  newProgress(next: Index, isLearner: boolean): Progress {
    const { maxInflightMessages, maxInflightBytes } = this.limits
    return new Progress(next, new Inflights(maxInflightMessages, maxInflightBytes), isLearner)
  }

  /** The same members, nothing known of them: for a new term or role. */
  withFreshProgress(self: PeerId, lastIndex: Index): Tracker {
    const fresh = new Map<PeerId, Progress>()
    for (const [id, old] of this.#progress) {
      const progress = this.newProgress(lastIndex + 1, old.isLearner)
      if (id === self) progress.match = lastIndex
      fresh.set(id, progress)
    }
    return new Tracker(this.limits, this.membership, fresh)
  }

  /** The index that a quorum has durably. */
  committedIndex(): Index {
    return this.membership.voters.committedIndex((id) => this.#progress.get(id)?.match)
  }

  /** Whether a quorum was heard from since the last check. */
  quorumActive(): boolean {
    const votes = new Map<PeerId, boolean>()
    for (const [id, progress] of this.#progress) {
      if (!progress.isLearner) votes.set(id, progress.recentActive)
    }
    return this.membership.voters.voteResult(votes) === 'won'
  }

  confState(): ConfState {
    const { voters, learners, learnersNext, autoLeave } = this.membership
    return {
      voters: voters.incoming.ids,
      votersOutgoing: voters.outgoing.ids,
      learners: ascending(learners),
      learnersNext: ascending(learnersNext),
      autoLeave,
    }
  }
}
