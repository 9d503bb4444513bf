/**
 * One member of a Raft group, in the shape that hashicorp/raft made familiar. It owns its stores
 * and its transport from `open` to `shutdown`. Reads of state are synchronous and of this member's
 * knowledge; whatever waits takes `{ signal, timeoutMs }`.
 *
 * A write that ends with TIMED_OUT may still take effect; with NOT_LEADER it took none.
 */
import { SwarmError } from '../../base/errors.ts'
import type { Index, Term } from '../core/entry.ts'
import type { Role } from '../core/ready.ts'
import type { StoredSnapshot } from '../storage/ports.ts'
import { AppliedWaiters } from './applied-waiters.ts'
import { bootstrap } from './bootstrap.ts'
import { Driver } from './driver.ts'
import type { DriverFigures } from './figures.ts'
import { LatestValue } from './latest-value.ts'
import { memberNumber } from './member-numbers.ts'
import { toConfChange, type MembershipChange } from './membership-changes.ts'
import {
  resolveRaftOptions,
  type RaftComponents,
  type RaftOptions,
  type ResolvedRaftOptions,
} from './options.ts'
import type { CallOptions } from './pending-calls.ts'
import type { Configuration, ServerId } from './ports.ts'
import { BARRIER, changePending, type Applied } from './proposals.ts'
import { recover } from './recovery.ts'
import { bestSuccessor, type MemberProgress } from './succession.ts'

/** Who leads, as this member sees it. */
export interface Leadership {
  readonly leader: ServerId | undefined
  readonly term: Term
  /**
   * Whether this member leads. Its state machine may not hold all earlier writes yet: `barrier`.
   */
  readonly isLeader: boolean
}

/** Figures for people and metrics. */
export interface RaftStats extends DriverFigures {
  readonly id: ServerId
  readonly leader: ServerId | undefined
}

/** A member of a Raft group. `R` is what the state machine answers to a command. */
export class Raft<R> implements AsyncDisposable {
  readonly #options: ResolvedRaftOptions
  readonly #driver: Driver<R>
  readonly #leadershipListeners = new Set<(leadership: Leadership) => void>()
  readonly #configurationListeners = new Set<(configuration: Configuration) => void>()
  readonly #fatalListeners = new Set<(error: SwarmError) => void>()
  readonly #appliedWaiters: AppliedWaiters
  /** The last configuration change that this member proposed, and its term: it dies with that. */
  #change: { readonly index: Index; readonly term: Term } = { index: 0, term: 0 }
  #fatal: SwarmError | undefined

  /**
   * Restores the state machine and starts. Without any configuration (not bootstrapped) it waits
   * to be added by a leader. @throws STORAGE_CORRUPT, STORAGE_FULL, INVALID_ARGUMENT
   */
  static async open<R>(components: RaftComponents<R>, options: RaftOptions): Promise<Raft<R>> {
    const resolved = resolveRaftOptions(options)
    try {
      const raft = new Raft(components, resolved, await recover(components))
      raft.#driver.start()
      return raft
    } catch (error) {
      await components.transport.close()
      await components.snapshotStore.close()
      await components.logStore.close()
      throw error
    }
  }

  /** Writes the first configuration into empty stores. @throws FAILED_PRECONDITION */
  static readonly bootstrap = bootstrap

  private constructor(
    components: RaftComponents<R>,
    options: ResolvedRaftOptions,
    recovered: Awaited<ReturnType<typeof recover>>,
  ) {
    this.#options = options
    this.#driver = new Driver<R>(components, options, {
      recovered,
      hooks: {
        onLeadership: () => this.#tell(this.#leadershipListeners, this.#leadership()),
        onConfiguration: () => this.#tell(this.#configurationListeners, this.configuration),
        onApplied: () => this.#appliedWaiters.onApplied(this.appliedIndex),
        onFatal: (error) => this.#onFatal(error),
      },
    })
    this.#appliedWaiters = new AppliedWaiters(this.#driver.calls)
  }

  get id(): ServerId {
    return this.#options.id
  }

  get role(): Role {
    return this.#driver.role
  }

  get leader(): ServerId | undefined {
    return this.#driver.leader
  }

  get term(): Term {
    return this.#driver.core.status().hard.term
  }

  get lastIndex(): Index {
    return this.#driver.core.status().lastIndex
  }

  get commitIndex(): Index {
    return this.#driver.core.status().hard.commit
  }

  get appliedIndex(): Index {
    return this.#driver.appliedIndex
  }

  /** Who is a member, as of the last applied change. */
  get configuration(): Configuration {
    return this.#driver.membership.configuration
  }

  /**
   * Proposes a command; resolves when it is applied here.
   * @throws NOT_LEADER at once when another leads (see `leader`), TIMED_OUT (it may still take
   * effect), RESOURCE_EXHAUSTED, INVALID_ARGUMENT, ABORTED, SHUTTING_DOWN, or the code of the
   * node's failure
   */
  async apply(data: Uint8Array, options: CallOptions = {}): Promise<Applied<R>> {
    if (data.length === 0) throw new SwarmError('INVALID_ARGUMENT', 'raft: an empty command')
    const { index, term, response } = await this.#propose(data, options)
    // Only entries without data have no response.
    return { index, term, response: response as R }
  }

  /**
   * Resolves when everything proposed before is applied here; gives the index. @throws as `apply`
   */
  async barrier(options: CallOptions = {}): Promise<Index> {
    return (await this.#propose(BARRIER, options)).index
  }

  /** Resolves when this member has proved that it leads now. @throws NOT_LEADER, TIMED_OUT */
  async verifyLeader(options: CallOptions = {}): Promise<void> {
    this.#assertLeader()
    const { term } = this
    await this.readIndex(options)
    this.#assertLeader()
    if (this.term !== term) throw notLeader()
  }

  /**
   * An index such that a local read after `waitApplied(index)` is linearizable. Works on every
   * member.
   * @throws TIMED_OUT when no leader confirms it in time
   */
  readIndex(options: CallOptions = {}): Promise<Index> {
    const promise = this.#driver.reads.add(options)
    this.#driver.schedule()
    return promise
  }

  /** Resolves when entry `index` is applied here. @throws TIMED_OUT */
  async waitApplied(index: Index, options: CallOptions = {}): Promise<void> {
    if (this.appliedIndex >= index) return
    await this.#appliedWaiters.add(index, options)
  }

  /** Adds a voter, or promotes a learner; also renews the address. */
  addVoter(id: ServerId, address: string, options?: CallOptions): Promise<Index> {
    return this.changeMembership([{ type: 'addVoter', id, address }], options)
  }

  addLearner(id: ServerId, address: string, options?: CallOptions): Promise<Index> {
    return this.changeMembership([{ type: 'addLearner', id, address }], options)
  }

  /** Makes a voter a learner. */
  demoteVoter(id: ServerId, options?: CallOptions): Promise<Index> {
    return this.changeMembership([{ type: 'demoteVoter', id }], options)
  }

  removeServer(id: ServerId, options?: CallOptions): Promise<Index> {
    return this.changeMembership([{ type: 'removeServer', id }], options)
  }

  /**
   * Changes the membership; resolves when the change is in force here, the joint phase included.
   * @throws NOT_LEADER, FAILED_PRECONDITION (another change is under way, or no voter would be
   * left), NOT_FOUND, INVALID_ARGUMENT, TIMED_OUT (it may still take effect)
   */
  async changeMembership(
    changes: readonly MembershipChange[],
    options: CallOptions = {},
  ): Promise<Index> {
    this.#assertLeader()
    // A new leader's log may end in changes of the old one: those must be applied first (raft.md
    // bug 18).
    await this.waitApplied(this.#driver.leadershipIndex, options)
    this.#assertLeader()
    this.#assertNoChangePending()
    const change = toConfChange(this.#driver.membership, changes)
    const proposed = this.#driver.proposals.proposeChange(this.#driver.core, change, options)
    if (proposed.index > 0) this.#change = { index: proposed.index, term: this.term }
    this.#driver.schedule()
    const { index } = await proposed.promise
    if (this.configuration.index < index) throw changePending()
    await this.#whenNotJoint(options)
    return index
  }

  /**
   * Hands leadership to `to`, or to the voter that is furthest. Resolves when this member follows.
   * @throws NOT_LEADER, NOT_FOUND, FAILED_PRECONDITION (no other voter), TIMED_OUT
   */
  async transferLeadership(to?: ServerId, options: CallOptions = {}): Promise<void> {
    this.#assertLeader()
    const target = to ?? bestSuccessor(this)
    if (target === this.id) return
    if (this.#driver.membership.suffrageOf(target) !== 'voter') {
      throw new SwarmError('NOT_FOUND', `server ${target}: is no voter`)
    }
    const { tickMs, electionTicks } = this.#options
    const message = `raft: server ${target} did not take over in time`
    const timeoutMs = options.timeoutMs ?? 2 * tickMs * electionTicks
    const call = this.#driver.calls.start<void>({ ...options, timeoutMs }, message)
    const undo = this.onLeadership(({ isLeader, leader }) => {
      if (!isLeader && leader !== undefined) call.resolve()
    })
    try {
      this.#driver.act(() => this.#driver.core.transferLeader(memberNumber(target)))
      await call.promise
    } finally {
      undo()
    }
  }

  /** Takes a snapshot now. @throws FAILED_PRECONDITION when nothing is applied, STORAGE_FULL … */
  snapshot(): Promise<StoredSnapshot> {
    return this.#driver.snapshots.take()
  }

  stats(): RaftStats {
    return { id: this.id, leader: this.leader, ...this.#driver.figures() }
  }

  /**
   * What this leader knows of `id`; `undefined` when it is no member or this member does not lead.
   */
  progressOf(id: ServerId): MemberProgress | undefined {
    const { progress, lastIndex } = this.#driver.core.status()
    const found = progress.get(memberNumber(id))
    if (found === undefined || !this.#driver.isRunning) return undefined
    const { match, recentActive, mode } = found
    return { match, recentActive, mode, behind: Math.max(0, lastIndex - match) }
  }

  /** Calls `listener` after each change of leader or role; returns the undo. */
  onLeadership(listener: (leadership: Leadership) => void): () => void {
    return subscribe(this.#leadershipListeners, listener)
  }

  /** The present leadership and every later one; a slow reader gets the latest only. */
  leadership(options: { readonly signal?: AbortSignal } = {}): AsyncIterable<Leadership> {
    const latest = new LatestValue(this.#leadership())
    return latest.iterate(
      this.onLeadership((value) => latest.set(value)),
      options.signal,
    )
  }

  /** Calls `listener` after each applied change of membership; returns the undo. */
  onConfiguration(listener: (configuration: Configuration) => void): () => void {
    return subscribe(this.#configurationListeners, listener)
  }

  /**
   * Calls `listener` when this member must stop for good (also if it has already); returns the
   * undo.
   */
  onFatal(listener: (error: SwarmError) => void): () => void {
    if (this.#fatal !== undefined) listener(this.#fatal)
    return subscribe(this.#fatalListeners, listener)
  }

  /**
   * Stops. With `transfer`, a leader first hands over; if nobody takes it in time, it stops anyway.
   */
  async shutdown(options: { readonly transfer?: boolean } = {}): Promise<void> {
    if (options.transfer === true && this.role === 'leader' && this.#driver.isRunning) {
      await this.#handOver()
    }
    await this.#driver.stop()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.shutdown()
  }

  async #handOver(): Promise<void> {
    const isAlone = this.#driver.membership.conf.voters.length < 2
    if (isAlone) return
    try {
      await this.transferLeadership()
    } catch (error) {
      if (!(error instanceof SwarmError)) throw error
      this.#driver.logHandOverFailure(error)
    }
  }

  #propose(data: Uint8Array, options: CallOptions): ReturnType<Driver<R>['proposals']['add']> {
    this.#assertLeader()
    const promise = this.#driver.proposals.add(data, options)
    this.#driver.schedule()
    return promise
  }

  async #whenNotJoint(options: CallOptions): Promise<void> {
    if (!this.configuration.joint) return
    const message =
      'raft: the joint configuration was not left in time; it will be left by the leader'
    const call = this.#driver.calls.start<void>(options, message)
    const undo = this.onConfiguration(({ joint }) => {
      if (!joint) call.resolve()
    })
    try {
      await call.promise
    } finally {
      undo()
    }
  }

  #assertLeader(): void {
    if (this.#fatal !== undefined) throw this.#fatal
    if (!this.#driver.isRunning) throw new SwarmError('SHUTTING_DOWN', 'raft: is stopping')
    if (this.role !== 'leader') throw notLeader()
  }

  #assertNoChangePending(): void {
    const isOpen = this.#change.term === this.term && this.#change.index > this.appliedIndex
    if (isOpen || this.configuration.joint) throw changePending()
  }

  #leadership(): Leadership {
    const isLeader = this.role === 'leader' && this.#driver.isRunning
    return { leader: this.leader, term: this.term, isLeader }
  }

  #onFatal(error: SwarmError): void {
    this.#fatal = error
    this.#tell(this.#fatalListeners, error)
  }

  #tell<T>(listeners: ReadonlySet<(value: T) => void>, value: T): void {
    for (const listener of listeners) listener(value)
  }
}

function subscribe<T>(listeners: Set<T>, listener: T): () => void {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

function notLeader(): SwarmError {
  return new SwarmError('NOT_LEADER', 'raft: this member does not lead')
}
