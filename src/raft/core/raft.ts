/**
 * The state of one member, its role, and its outbox. The rules live in the files that take a
 * `Raft`: `step.ts` and `ticking.ts` (entry points), `follower.ts`, `candidate.ts`, `leader.ts`
 * (roles), `elections.ts`, `replication.ts`, `append-handler.ts`, `conf-changes.ts`,
 * `read-requests.ts`, `transfer.ts`, `applied.ts` (subjects). Only this folder sees this class; its
 * public face is `raft-core.ts`.
 *
 *                 timeout                won pre-vote               won vote
 *   follower ---------------> preCandidate ---------> candidate ---------------> leader
 *     ^  ^  \___________________________________________^  |  ^                    |
 *     |  |            timeout without pre-vote, transfer   |  |__ timeout          |
 *     |  |_________________________________________________|                       |
 *     |           lost, or a leader or a higher term is heard                      |
 *     |____________________________________________________________________________|
 *                     a higher term, quorum lost, removed
 *
 * Invariants: `term` never falls; `vote` changes at most once a term; `leader` exists exactly in
 * the role of leader; answers that promise durability wait in `afterAppend` for the write that they
 * follow. Source: etcd-io/raft `raft.go`, in its semantics.
 */
import { assert } from '../../base/assert.ts'
import type { CoreEvent } from './core-event.ts'
import type { ResolvedOptions } from './core-options.ts'
import { restoreTracker } from './conf-changer.ts'
import { NO_PEER, type HardState, type Index, type PeerId, type Term } from './entry.ts'
import { ForwardedReads } from './forwarded-reads.ts'
import { LeaderReads, type PendingRead } from './reads.ts'
import type { Message } from './message.ts'
import { RaftLog } from './raft-log.ts'
import type { LogView, ReadState, Role } from './ready.ts'
import { Tracker } from './tracker.ts'

/** What exists only while leading; it dies with the role, and no flag outlives it (bug 26). */
export class LeaderState {
  /** Whom leadership is being handed to. */
  transferee: PeerId = NO_PEER
  /** No configuration change is accepted until this index is applied. */
  pendingConfIndex: Index
  /** Bytes of proposals that are not yet applied. */
  uncommittedBytes = 0
  /** Ticks since learners got a heartbeat. */
  learnersElapsed = 0
  readonly reads = new LeaderReads()
  /** Reads that came before the first commit of this term (bug 22). */
  earlyReads: PendingRead[] = []

  constructor(lastIndex: Index) {
    this.pendingConfIndex = lastIndex
  }
}

/** Which role may follow which. */
const TRANSITIONS: Readonly<Record<Role, readonly Role[]>> = {
  follower: ['follower', 'preCandidate', 'candidate'],
  preCandidate: ['follower', 'preCandidate', 'candidate'],
  candidate: ['follower', 'preCandidate', 'candidate', 'leader'],
  leader: ['follower'],
}

/** One member's state. */
export class Raft {
  /** Replaced as a whole by `RaftCore.reconfigure`. */
  options: ResolvedOptions
  readonly id: PeerId
  readonly log: RaftLog
  tracker: Tracker
  term: Term = 0
  /** Whom this member voted for in `term`. */
  vote: PeerId = NO_PEER
  /** The leader of `term`, as far as known. */
  lead: PeerId = NO_PEER
  /** Votes received in this campaign. */
  votes = new Map<PeerId, boolean>()
  leader: LeaderState | undefined
  readonly forwardedReads: ForwardedReads
  /** Ticks since this core was made; measures leases. */
  now = 0
  /** Follower: ticks since the leader was heard. Leader: since the last quorum check. */
  electionElapsed = 0
  heartbeatElapsed = 0
  /** Ticks without a leader after which this member campaigns; drawn anew in every role. */
  electionTimeout = 0
  /** May leave at once. */
  messages: Message[] = []
  /** May leave when everything written so far is durable. */
  afterAppend: Message[] = []
  readStates: ReadState[] = []
  #role: Role = 'follower'
  /** Tick before which this member supports nobody: it may owe a lease from before its restart. */
  #silentUntil = 0

  constructor(options: ResolvedOptions, view: LogView) {
    this.options = options
    this.id = options.id
    this.forwardedReads = new ForwardedReads(options.random)
    const { hard, conf } = view.initialState()
    this.log = new RaftLog(view, {
      entrySize: options.entrySize,
      maxApplyingBytes: options.maxCommittedBytesPerReady,
      applyUnstable: !options.asyncStorageWrites,
      tell: (event) => {
        this.tell(event)
      },
    })
    this.tracker = restoreTracker(new Tracker(options), conf, this.log.lastIndex)
    this.tell({ type: 'configurationChanged', conf: this.tracker.confState() })
    this.#load(hard)
    if (options.applied > 0) this.log.appliedTo(options.applied, 0)
    this.becomeFollower(this.term, NO_PEER)
    this.tell({
      type: 'restored',
      voters: this.tracker.membership.voters.ids,
      term: this.term,
      commit: this.log.committed,
      applied: this.log.applied,
      last: this.log.last,
    })
  }

  get role(): Role {
    return this.#role
  }

  hardState(): HardState {
    return { term: this.term, vote: this.vote, commit: this.log.committed }
  }

  /** Whether this member may campaign: a voter, with no snapshot still to install. */
  get promotable(): boolean {
    const progress = this.tracker.progress(this.id)
    return progress !== undefined && !progress.isLearner && this.log.unstable.snapshot === undefined
  }

  /**
   * Whether a leader was heard so recently that nobody else may be voted for. With lease reads that
   * includes the time after a restart, since this member may have supported a lease just before.
   */
  get inLease(): boolean {
    const { checkQuorum, electionTicks } = this.options
    if (this.now < this.#silentUntil) return true
    return checkQuorum && this.lead !== NO_PEER && this.electionElapsed < electionTicks
  }

  tell(event: CoreEvent): void {
    this.options.onEvent(event)
  }

  /** The head of a message of this term. */
  head(to: PeerId): { from: PeerId; to: PeerId; term: Term } {
    return { from: this.id, to, term: this.term }
  }

  /**
   * Puts a message in the outbox. Votes and append acknowledgements promise what is on disk, so
   * they wait for the write; every other message may overtake it.
   */
  send(message: Message): void {
    const { type } = message
    if (type === 'appResp' || type === 'voteResp' || type === 'preVoteResp') {
      this.afterAppend.push(message)
      return
    }
    assert(message.to !== this.id, `a ${type} message is addressed to its sender`)
    this.messages.push(message)
  }

  becomeFollower(term: Term, lead: PeerId): void {
    this.#enter('follower')
    this.#reset(term)
    this.lead = lead
    this.tell({ type: 'roleChanged', role: 'follower', term })
  }

  /** Asks before the term grows: changes neither term nor vote, but forgets the leader (bug 2). */
  becomePreCandidate(): void {
    this.#enter('preCandidate')
    this.votes = new Map()
    this.lead = NO_PEER
    this.tell({ type: 'roleChanged', role: 'preCandidate', term: this.term })
  }

  becomeCandidate(): void {
    this.#enter('candidate')
    this.#reset(this.term + 1)
    this.vote = this.id
    this.tell({ type: 'roleChanged', role: 'candidate', term: this.term })
  }

  /**
   * No configuration change is accepted before everything now in the log is applied: it may hold
   * one of an earlier leader (bug 18).
   */
  becomeLeader(): LeaderState {
    this.#enter('leader')
    this.#reset(this.term)
    this.lead = this.id
    const leader = new LeaderState(this.log.lastIndex)
    this.leader = leader
    const own = this.tracker.progress(this.id)
    assert(own !== undefined, 'a leader is a member')
    own.becomeReplicate()
    own.recentActive = true
    this.tell({ type: 'roleChanged', role: 'leader', term: this.term })
    return leader
  }

  /** Draws a timeout in [electionTicks, 2 * electionTicks). */
  drawElectionTimeout(): void {
    const { electionTicks, random } = this.options
    this.electionTimeout = electionTicks + random.integer(electionTicks)
  }

  #enter(role: Role): void {
    assert(TRANSITIONS[this.#role].includes(role), `a ${this.#role} cannot become ${role}`)
    this.#role = role
    this.leader = undefined
  }

  #reset(term: Term): void {
    assert(term >= this.term, 'terms never fall')
    if (term !== this.term) {
      this.term = term
      this.vote = NO_PEER
    }
    this.lead = NO_PEER
    this.electionElapsed = 0
    this.heartbeatElapsed = 0
    this.drawElectionTimeout()
    this.votes = new Map()
    this.tracker = this.tracker.withFreshProgress(this.id, this.log.lastIndex)
  }

  #load(hard: HardState): void {
    if (hard.term === 0 && hard.vote === NO_PEER && hard.commit === 0) return
    assert(
      hard.commit >= this.log.committed && hard.commit <= this.log.lastIndex,
      `commit ${hard.commit} is outside the log [${this.log.committed}, ${this.log.lastIndex}]`,
    )
    this.log.commitTo(hard.commit)
    this.term = hard.term
    this.vote = hard.vote
    if (this.options.readOnly === 'lease') this.#silentUntil = this.options.electionTicks
  }
}
