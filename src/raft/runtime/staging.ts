/**
 * A new voter that lacks the log costs availability: it counts in every quorum and helps none until
 * it has caught up. So a server is staged: it becomes a learner, catches up in rounds, and is
 * promoted when a round, all that the leader had at its beginning, took no longer than an election
 * timeout: what it lacks then it gets in no time.
 *
 *   not a member ─► learner ─► round ─► … ─► round within an election timeout ─► voter
 *                                 └─► no progress, time over, leader lost: stays a learner
 *
 * Source: Ongaro §4.2.1; LogCabin's staging; etcd refuses to promote who is behind.
 */
import { delay, type Clock } from '../../base/clock.ts'
import { SwarmError, isSwarmError } from '../../base/errors.ts'
import type { Index, Term } from '../core/entry.ts'
import type { MemberView } from './member-view.ts'
import type { MembershipChange, MembershipOptions } from './membership-changes.ts'
import type { Observation, StagingPhase } from './observations.ts'
import {
  CAUGHT_UP_ENTRIES,
  STAGING_STALL_ELECTIONS,
  STAGING_TIMEOUT_MS,
  type ResolvedRaftOptions,
} from './options.ts'
import type { CallOptions } from './pending-calls.ts'
import type { ServerId } from './ports.ts'

/** The member that stages. */
export interface StagingMember extends Pick<
  MemberView<unknown>,
  'role' | 'term' | 'lastIndex' | 'configuration' | 'progressOf' | 'lastContactMs'
> {
  /** Resolves when the changes are in force. @throws as `Raft.changeMembership` */
  changeMembership(
    changes: readonly MembershipChange[],
    options?: MembershipOptions,
  ): Promise<Index>
}

/** What staging works with. */
export interface StagingParts {
  readonly raft: StagingMember
  readonly clock: Clock
  readonly options: () => ResolvedRaftOptions
  /** Whether another change of membership is under way. */
  readonly isChangePending: () => boolean
  readonly tell: (observation: Observation) => void
  /** Aborts when the member stops. */
  readonly stopped: AbortSignal
}

/** One server on its way. */
interface Candidate {
  readonly id: ServerId
  readonly address: string
  /** The leader's term: it does not outlive that. */
  readonly term: Term
  readonly endMs: number
  readonly signal: AbortSignal
  rounds: number
  /** Last known position, and since when. */
  match: Index
  sinceMs: number
}

/** Servers that are being made voters by this leader. */
export class Staging {
  readonly #parts: StagingParts
  readonly #candidates = new Set<ServerId>()

  constructor(parts: StagingParts) {
    this.#parts = parts
  }

  /**
   * Makes `id` a voter when it has caught up; gives the index of its promotion.
   * @throws FAILED_PRECONDITION (it is being staged already), NOT_LEADER, TIMED_OUT, NOT_FOUND (it
   * was removed meanwhile), ABORTED
   */
  async run(id: ServerId, address: string, options: CallOptions): Promise<Index> {
    if (this.#candidates.has(id)) {
      throw new SwarmError('FAILED_PRECONDITION', `server ${id}: is being staged already`)
    }
    const candidate = this.#begin(id, address, options)
    this.#candidates.add(id)
    this.#tell(candidate, 'started')
    try {
      const index = await this.#stage(candidate)
      this.#tell(candidate, 'promoted')
      return index
    } catch (error) {
      if (isSwarmError(error)) this.#tell(candidate, 'abandoned', error)
      throw error
    } finally {
      this.#candidates.delete(id)
    }
  }

  /**
   * Whether `id` was heard within an election timeout and lacks next to nothing.
   */
  isCaughtUp(id: ServerId): boolean {
    const { raft } = this.#parts
    const progress = raft.progressOf(id)
    if (progress === undefined || progress.mode === 'snapshot' || !this.#isHeard(id)) return false
    return progress.behind <= CAUGHT_UP_ENTRIES
  }

  #begin(id: ServerId, address: string, options: CallOptions): Candidate {
    const { clock, raft, stopped } = this.#parts
    const nowMs = clock.monotonicMs()
    const { signal, timeoutMs = STAGING_TIMEOUT_MS } = options
    return {
      id,
      address,
      term: raft.term,
      endMs: nowMs + timeoutMs,
      signal: signal === undefined ? stopped : AbortSignal.any([signal, stopped]),
      rounds: 0,
      match: 0,
      sinceMs: nowMs,
    }
  }

  async #stage(candidate: Candidate): Promise<Index> {
    const { raft, clock } = this.#parts
    const { id } = candidate
    if (!this.#isMember(id)) {
      await this.#whenSettled(candidate)
      await this.#change(candidate, 'addLearner')
    }
    for (;;) {
      // First its turn, then the round: what it had before a long wait is no proof.
      await this.#whenSettled(candidate)
      const startMs = clock.monotonicMs()
      await this.#reach(candidate, raft.lastIndex)
      candidate.rounds += 1
      this.#tell(candidate, 'caughtUpRound')
      if (this.#parts.isChangePending()) continue
      if (clock.monotonicMs() - startMs <= this.#electionMs) break
    }
    return this.#change(candidate, 'addVoter')
  }

  #isMember(id: ServerId): boolean {
    return this.#parts.raft.configuration.servers.some((server) => server.id === id)
  }

  /** Waits its turn: one change of membership at a time. */
  async #whenSettled(candidate: Candidate): Promise<void> {
    while (this.#parts.isChangePending()) await this.#pause(candidate)
  }

  #change(candidate: Candidate, type: 'addLearner' | 'addVoter'): Promise<Index> {
    this.#check(candidate)
    const { id, address } = candidate
    const { signal, endMs } = candidate
    const timeoutMs = endMs - this.#parts.clock.monotonicMs()
    return this.#parts.raft.changeMembership([{ type, id, address }], { signal, timeoutMs })
  }

  /** One round: until the candidate has everything up to `target`. */
  async #reach(candidate: Candidate, target: Index): Promise<void> {
    for (;;) {
      if (!this.#isMember(candidate.id)) throw removed(candidate)
      const progress = this.#parts.raft.progressOf(candidate.id)
      const match = progress?.match ?? 0
      if (match >= target && this.#isHeard(candidate.id)) return
      if (match > candidate.match || progress?.mode === 'snapshot') {
        candidate.match = match
        candidate.sinceMs = this.#parts.clock.monotonicMs()
      }
      await this.#pause(candidate)
    }
  }

  async #pause(candidate: Candidate): Promise<void> {
    this.#check(candidate)
    const { tickMs } = this.#parts.options()
    try {
      await delay(this.#parts.clock, tickMs, candidate.signal)
    } catch (error) {
      throw withdrawal(candidate, error)
    }
  }

  #check(candidate: Candidate): void {
    const { raft, clock } = this.#parts
    const { id, term, endMs, sinceMs, signal } = candidate
    if (signal.aborted) throw withdrawal(candidate, signal.reason)
    if (raft.role !== 'leader' || raft.term !== term) {
      throw new SwarmError('NOT_LEADER', `server ${id}: leadership was lost while it was staged`)
    }
    const nowMs = clock.monotonicMs()
    if (nowMs >= endMs) throw new SwarmError('TIMED_OUT', `server ${id}: did not catch up in time`)
    if (nowMs - sinceMs >= STAGING_STALL_ELECTIONS * this.#electionMs) {
      throw new SwarmError('TIMED_OUT', `server ${id}: makes no progress; it remains a learner`)
    }
  }

  #isHeard(id: ServerId): boolean {
    const lastMs = this.#parts.raft.lastContactMs(id)
    return lastMs !== undefined && this.#parts.clock.monotonicMs() - lastMs <= this.#electionMs
  }

  get #electionMs(): number {
    const { tickMs, electionTicks } = this.#parts.options()
    return tickMs * electionTicks
  }

  #tell({ id, rounds }: Candidate, phase: StagingPhase, error?: SwarmError): void {
    const behind = this.#parts.raft.progressOf(id)?.behind
    const base = { type: 'staging', id, phase, rounds, behind } as const
    this.#parts.tell(error === undefined ? base : { ...base, error })
  }
}

/** Why a plain addition is refused. */
export function notCaughtUp(id: ServerId): SwarmError {
  const message =
    `server ${id}: is not reachable or lacks much of the log, and would cost the group its ` +
    'quorum; add it with staging, or with force'
  return new SwarmError('FAILED_PRECONDITION', message)
}

/** Who removed it does not want it as a voter. */
function removed({ id }: Candidate): SwarmError {
  return new SwarmError('NOT_FOUND', `server ${id}: was removed while it was staged`)
}

function withdrawal({ id }: Candidate, reason: unknown): SwarmError {
  if (isSwarmError(reason)) return reason
  return new SwarmError('ABORTED', `server ${id}: staging was withdrawn`, { cause: reason })
}
