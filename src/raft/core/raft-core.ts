/**
 * The public face of the consensus core: a synchronous, deterministic state machine. It has no
 * timers, no I/O and no clock; `tick` is time, `step` is what arrives, `ready` is what is to be
 * done.
 *
 *   loop:  tick / step / propose ...      while hasReady():  ready() -> do it -> advance()
 *
 * What is to be done with a `Ready`, in order: install its snapshot, make entries and hard state
 * durable in one write, send its messages, apply its committed entries (each configuration change
 * through `applyConfChange`), then `advance`. With `asyncStorageWrites` everything travels in
 * messages instead (`message.ts`) and `advance` is never called.
 * Source: Ongaro's thesis; etcd-io/raft `rawnode.go`, in its semantics; reference/raft.md §1.2, §2.
 */
import { assert } from '../../base/assert.ts'
import { applyConfChange } from './conf-changes.ts'
import { encodeConfChange } from './conf-change-codec.ts'
import { resolveOptions, type CoreOptions } from './core-options.ts'
import { NO_PEER, type ConfChange, type ConfState } from './entry.ts'
import type { Index, PeerId, Term } from './entry.ts'
import type { LocalMessage, Message, ProposedEntry } from './message.ts'
import { Outbox } from './outbox.ts'
import { Raft } from './raft.ts'
import type { LogView, Ready, Role } from './ready.ts'
import type { LeaseRounds } from './reads.ts'
import { committedInTerm } from './replication.ts'
import type { CoreStatus, ProgressStatus } from './status.ts'
import { step } from './step.ts'
import type { StepResult } from './step-result.ts'
import { tick } from './ticking.ts'

export type { StepResult } from './step-result.ts'

/** Kinds that only this member and its storage threads send. */
const LOCAL: ReadonlySet<Message['type']> = new Set<Message['type']>([
  'hup',
  'beat',
  'checkQuorum',
  'unreachable',
  'snapStatus',
  'forgetLeader',
  'storageAppend',
  'storageAppendResp',
  'storageApply',
  'storageApplyResp',
])

/** Answers: of no interest unless they come from a member. */
const RESPONSES: ReadonlySet<Message['type']> = new Set<Message['type']>([
  'appResp',
  'voteResp',
  'preVoteResp',
  'heartbeatResp',
  'readIndexResp',
])

/** One member of a Raft group. */
export class RaftCore {
  readonly #raft: Raft
  readonly #outbox: Outbox

  private constructor(raft: Raft) {
    this.#raft = raft
    this.#outbox = new Outbox(raft)
  }

  /** The member as its durable state left it; a new one when `view` is empty. */
  static restore(options: CoreOptions, view: LogView): RaftCore {
    return new RaftCore(new Raft(resolveOptions(options), view))
  }

  /** One unit of logical time has passed. */
  tick(): void {
    tick(this.#raft)
  }

  /** Takes in a message from another member or from this member's storage threads. */
  step(message: Message): StepResult {
    const { type, from } = message
    const fromThread = from < NO_PEER
    if (LOCAL.has(type) && !fromThread) return 'localMessage'
    if (RESPONSES.has(type) && this.#raft.tracker.progress(from) === undefined)
      return 'peerNotFound'
    return step(this.#raft, message)
  }

  /** Starts an election now, as if the election timeout had passed. */
  campaign(): void {
    this.#local('hup')
  }

  /**
   * Proposes entries: the leader appends them, a follower passes them on. `dropped` is certain,
   * `ok` is not: passed-on proposals and those of a leader that is deposed may be lost.
   */
  propose(entries: readonly ProposedEntry[]): StepResult {
    const { id } = this.#raft
    return step(this.#raft, { type: 'prop', from: id, to: id, term: 0, entries })
  }

  /** Proposes a configuration change; `refused` when it is not allowed now, or not at all. */
  proposeConfChange(change: ConfChange): StepResult {
    return this.propose([{ type: 'confChangeV2', data: encodeConfChange(change) }])
  }

  /**
   * Puts a committed configuration change into force: to be called for each such entry when it is
   * applied, before `advance` (or before the apply thread answers). Returns the configuration.
   */
  applyConfChange(change: ConfChange): ConfState {
    return applyConfChange(this.#raft, change)
  }

  /**
   * Asks for an index at which reads are linearizable; it comes back in `Ready.readStates` with
   * `context`, or never (no leader, leader lost): then ask again under another number.
   */
  readIndex(context: number): void {
    const { id } = this.#raft
    step(this.#raft, { type: 'readIndex', from: id, to: id, term: 0, context })
  }

  /** Asks the leader to hand over to `to`; given up after one election timeout. */
  transferLeader(to: PeerId): void {
    step(this.#raft, { type: 'transferLeader', from: to, to: this.#raft.id, term: 0 })
  }

  /** Makes a follower forget its leader, so that it may vote at once. Refused with lease reads. */
  forgetLeader(): void {
    this.#local('forgetLeader')
  }

  /** The last messages to `peer` may be lost. */
  reportUnreachable(peer: PeerId): void {
    step(this.#raft, { type: 'unreachable', from: peer, to: this.#raft.id, term: 0 })
  }

  /**
   * The snapshot sent to `peer` arrived, or did not: without a report nothing more is sent there.
   */
  reportSnapshot(peer: PeerId, ok: boolean): void {
    const { id } = this.#raft
    step(this.#raft, { type: 'snapStatus', from: peer, to: id, term: 0, reject: !ok })
  }

  hasReady(): boolean {
    return this.#outbox.hasReady()
  }

  /** Takes out everything that is to be done now. In synchronous mode `advance` must follow. */
  ready(): Ready {
    return this.#outbox.take()
  }

  /** Synchronous mode: everything in the last `Ready` is done. */
  advance(_ready?: Ready): void {
    assert(!this.#raft.options.asyncStorageWrites, 'asynchronous writes are never advanced')
    for (const message of this.#outbox.takeSteps()) step(this.#raft, message)
  }

  /**
   * Replaces the election timeout drawn for the present role: for scripts that need a certain one.
   * The next change of role draws anew.
   */
  setElectionTimeout(ticks: number): void {
    this.#raft.electionTimeout = ticks
  }

  /** Cheap views of what `status` copies; for the runtime's hot paths. */
  get term(): Term {
    return this.#raft.term
  }

  get role(): Role {
    return this.#raft.role
  }

  get lastIndex(): Index {
    return this.#raft.log.lastIndex
  }

  get commitIndex(): Index {
    return this.#raft.log.committed
  }

  /** Whom leadership is being handed to; 0 when no transfer runs. */
  get transferee(): PeerId {
    return this.#raft.leader?.transferee ?? NO_PEER
  }

  /** The leader's view of one member; `undefined` for others and of strangers. */
  progressOf(peer: PeerId): ProgressStatus | undefined {
    if (this.#raft.leader === undefined) return undefined
    return this.#raft.tracker.progress(peer)?.status()
  }

  /**
   * Rounds of heartbeats from which the runtime measures a lease in real time. `undefined` when
   * none may be held: not leading, nothing committed in this term yet, or a transfer has begun.
   */
  get leaseRounds(): LeaseRounds | undefined {
    const { leader } = this.#raft
    if (leader === undefined || leader.reads.leaseForfeited) return undefined
    return committedInTerm(this.#raft) ? leader.reads : undefined
  }

  /** A leader gives up at once and for nobody in particular, as if it had lost its quorum. */
  stepDown(): void {
    if (this.#raft.leader !== undefined) this.#raft.becomeFollower(this.#raft.term, NO_PEER)
  }

  /** Other timeouts from now on. Every member should get the same. */
  reconfigure(ticks: Pick<CoreOptions, 'electionTicks' | 'heartbeatTicks'>): void {
    const { electionTicks, heartbeatTicks } = ticks
    this.#raft.options = resolveOptions({ ...this.#raft.options, electionTicks, heartbeatTicks })
    this.#raft.drawElectionTimeout()
  }

  /** Entries up to here are taken for durable; 0 while a snapshot is being put in force. */
  get durableIndex(): Index {
    const { unstable } = this.#raft.log
    return unstable.snapshot === undefined ? unstable.offset - 1 : 0
  }

  status(): CoreStatus {
    const { id, lead, role, log, tracker, leader } = this.#raft
    return {
      id,
      lead,
      role,
      hard: this.#raft.hardState(),
      applied: log.applied,
      lastIndex: log.lastIndex,
      conf: tracker.confState(),
      transferee: leader?.transferee ?? NO_PEER,
      progress: this.progress(),
    }
  }

  /** The leader's view of each member, ascending; empty for others. */
  progress(): ReadonlyMap<PeerId, ProgressStatus> {
    const { leader, tracker } = this.#raft
    const copy = new Map<PeerId, ProgressStatus>()
    if (leader === undefined) return copy
    for (const [id, progress] of tracker.entries()) copy.set(id, progress.status())
    return copy
  }

  #local(type: LocalMessage['type']): void {
    const { id } = this.#raft
    step(this.#raft, { type, from: id, to: id, term: 0 })
  }
}
