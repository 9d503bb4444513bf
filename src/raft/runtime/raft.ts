/**
 * One member of a Raft group, in the shape that hashicorp/raft made familiar. It owns its stores
 * and its transport from `open` to `shutdown`. Reads of state are synchronous and of this member's
 * knowledge; whatever waits takes `{ signal, timeoutMs }`.
 *
 * What a failed call means, by code (all are `SwarmError`s; `docs/raft.md` has the table):
 * NOT_LEADER: it took no effect, ask `leader`. UNAVAILABLE: leadership is on its way to another or
 * a restore runs, it took no effect, repeat it. TIMED_OUT, ABORTED: it may still take effect.
 * RESOURCE_EXHAUSTED: too much waits, it took no effect. SHUTTING_DOWN, STORAGE_…, INTERNAL: this
 * member has stopped; its last calls may still take effect.
 */
import { SwarmError, errorText } from '../../base/errors.ts'
import type { Index, Term } from '../core/entry.ts'
import type { StoredSnapshot } from '../storage/ports.ts'
import { bootstrap } from './bootstrap.ts'
import { boundedRead } from './bounded-read.ts'
import type { Driver } from './driver.ts'
import * as handover from './handover.ts'
import { MemberView } from './member-view.ts'
import { assertUnchanged, toConfChange } from './membership-changes.ts'
import type { MembershipChange, MembershipOptions } from './membership-changes.ts'
import { resolveRaftOptions, type RaftComponents, type RaftOptions } from './options.ts'
import type { ResolvedRaftOptions } from './options.ts'
import type { CallOptions } from './pending-calls.ts'
import type { ServerId } from './ports.ts'
import { BARRIER, changePending, restoreRunning, type Applied } from './proposals.ts'
import { recover, type Recovered } from './recovery.ts'
import { reloaded, type ReloadableConfig } from './reloadable-config.ts'
import { Restore, type RestoreOptions } from './restore.ts'
import { notCaughtUp, Staging } from './staging.ts'
import { hasExistingState, readConfiguration, recoverCluster } from './stored-state.ts'
import { markFree, markInUse } from './stores-in-use.ts'

/** How fresh a read must be. */
export interface ReadOptions extends CallOptions {
  /**
   * `linearizable` (default): sees every write acknowledged before; any member, one round of
   * messages. `lease`: the same, without a round on a leader whose lease holds
   * (`RaftOptions.leaseReads`). `bounded`: what is applied here, at once, if it is proved to hold
   * every write acknowledged more than `maxStalenessMs` ago; else UNAVAILABLE, or with `timeoutMs`
   * as soon as it is (`freshness.ts`). `stale`: whatever is applied here, at once.
   */
  readonly consistency?: 'linearizable' | 'lease' | 'bounded' | 'stale'
  /** How old a `bounded` read may be. */
  readonly maxStalenessMs?: number
}

/** How a voter is added. */
export interface AddVoterOptions extends MembershipOptions {
  /** First a learner, promoted when it has caught up; `observe` tells how it goes. */
  readonly staging?: boolean
  /** Even if it is unreachable or far behind: it will count in every quorum. */
  readonly force?: boolean
}

/** A member of a Raft group. `R` is what the state machine answers to a command. */
export class Raft<R> extends MemberView<R> implements AsyncDisposable {
  readonly #components: RaftComponents<R>
  readonly #driver: Driver<R>
  readonly #staging: Staging
  /** The last configuration change that this member proposed, and its term: it dies with that. */
  #change: { readonly index: Index; readonly term: Term } = { index: 0, term: 0 }
  #isRestoring = false

  /**
   * Restores the state machine and starts. Without any configuration (not bootstrapped) it waits
   * to be added by a leader. @throws STORAGE_CORRUPT, STORAGE_FULL, INVALID_ARGUMENT
   */
  static async open<R>(components: RaftComponents<R>, options: RaftOptions): Promise<Raft<R>> {
    const resolved = resolveRaftOptions(options)
    const { logStore, snapshotStore, transport } = components
    markInUse(logStore)
    try {
      const raft = new Raft(components, resolved, await recover(components))
      raft.#driver.start()
      return raft
    } catch (error) {
      await transport.close()
      await snapshotStore.close()
      await logStore.close()
      markFree(logStore)
      throw error
    }
  }

  /** Writes the first configuration into empty stores. @throws FAILED_PRECONDITION */
  static readonly bootstrap = bootstrap
  /** Forces another configuration on a stopped member's stores after the loss of a quorum. */
  static readonly recover = recoverCluster
  /** Whether a stopped member's stores hold anything. */
  static readonly hasExistingState = hasExistingState
  /** The last committed configuration in a stopped member's stores. */
  static readonly readConfiguration = readConfiguration

  private constructor(
    components: RaftComponents<R>,
    options: ResolvedRaftOptions,
    recovered: Recovered,
  ) {
    super(components, options, recovered)
    this.#components = components
    this.#driver = this.driver
    this.#staging = new Staging({
      raft: this,
      clock: components.clock,
      options: () => this.#driver.options,
      isChangePending: () => this.#isChangePending(),
      tell: (observation) => this.tell(observation),
      stopped: this.stopped.signal,
    })
  }

  /**
   * Proposes a command; resolves when it is applied here.
   * @throws NOT_LEADER at once when another leads (see `leader`), UNAVAILABLE (leadership is being
   * handed over, or a restore runs; no effect), TIMED_OUT and ABORTED (it may still take effect),
   * RESOURCE_EXHAUSTED, INVALID_ARGUMENT, SHUTTING_DOWN, or the code of the node's failure
   */
  async apply(data: Uint8Array, options: CallOptions = {}): Promise<Applied<R>> {
    if (data.length === 0) throw new SwarmError('INVALID_ARGUMENT', 'raft: an empty command')
    const { index, term, response } = await this.#propose(data, options)
    // Only entries without data have no response.
    return { index, term, response: response as R }
  }

  /**
   * Proposes commands that enter the log in this order. Not a transaction: when it fails, at least
   * one took no effect or an unknown one, and others may have taken theirs. @throws as `apply`
   */
  async applyBatch(
    commands: readonly Uint8Array[],
    options: CallOptions = {},
  ): Promise<readonly Applied<R>[]> {
    return Promise.all(commands.map((data) => this.apply(data, options)))
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
   * member. @throws TIMED_OUT when no leader confirms it in time (Ongaro §6.4)
   */
  readIndex(options: CallOptions = {}): Promise<Index> {
    const promise = this.#driver.reads.add(options)
    this.#driver.schedule()
    return promise
  }

  /**
   * Calls `reader` when the state machine is as fresh as asked, with the index that it stands at;
   * `reader` must read synchronously. On every member. @throws TIMED_OUT, SHUTTING_DOWN, ABORTED;
   * UNAVAILABLE, INVALID_ARGUMENT (`bounded`)
   */
  async read<T>(reader: (appliedIndex: Index) => T, options: ReadOptions = {}): Promise<T> {
    const { consistency = 'linearizable', maxStalenessMs, ...call } = options
    this.#assertRunning()
    if (consistency === 'bounded') {
      const refresh = async (each: CallOptions): Promise<void> =>
        this.waitApplied(await this.readIndex(each), each)
      const member = { clock: this.#components.clock, driver: this.#driver, refresh }
      return boundedRead(member, () => reader(this.appliedIndex), { maxStalenessMs, ...call })
    }
    if (consistency === 'lease' && this.#driver.holdsLease()) {
      await this.waitApplied(this.commitIndex, call)
    } else if (consistency !== 'stale') {
      await this.waitApplied(await this.readIndex(call), call)
    }
    return reader(this.appliedIndex)
  }

  /** Resolves when entry `index` is applied here. @throws TIMED_OUT */
  async waitApplied(index: Index, options: CallOptions = {}): Promise<void> {
    if (this.appliedIndex >= index) return
    await this.appliedWaiters.add(index, options)
  }

  /**
   * Adds a voter, promotes a learner, or renews a voter's address.
   * @throws FAILED_PRECONDITION also when it would cost the quorum: who is no voter yet must have
   * caught up, be staged, or be forced. With `staging` as {@link Staging.run}; else as
   * `changeMembership`
   */
  async addVoter(id: ServerId, address: string, options: AddVoterOptions = {}): Promise<Index> {
    const { staging = false, force = false, ...call } = options
    this.#assertLeader()
    assertUnchanged(this.configuration.index, call)
    const isVoter = this.#driver.membership.suffrageOf(id) === 'voter'
    if (staging && !isVoter) return this.#staging.run(id, address, call)
    if (!force && !isVoter && !this.#staging.isCaughtUp(id)) throw notCaughtUp(id)
    return this.changeMembership([{ type: 'addVoter', id, address }], call)
  }

  /** Adds a learner, who gets everything and votes on nothing. @throws as `changeMembership` */
  addLearner(id: ServerId, address: string, options?: MembershipOptions): Promise<Index> {
    return this.changeMembership([{ type: 'addLearner', id, address }], options)
  }

  /** Makes a voter a learner. @throws as `changeMembership` */
  demoteVoter(id: ServerId, options?: MembershipOptions): Promise<Index> {
    return this.changeMembership([{ type: 'demoteVoter', id }], options)
  }

  /** @throws as `changeMembership` */
  removeServer(id: ServerId, options?: MembershipOptions): Promise<Index> {
    return this.changeMembership([{ type: 'removeServer', id }], options)
  }

  /**
   * Changes the membership; several changes go through joint consensus (Ongaro §4.3). Resolves when
   * the change is in force here, the joint phase included. Looks at nobody's progress.
   * @throws NOT_LEADER, FAILED_PRECONDITION (another change is under way, no voter would be left,
   * or the configuration is not that of `prevIndex`), NOT_FOUND, INVALID_ARGUMENT, UNAVAILABLE (a
   * hand-over or a restore runs), TIMED_OUT (it may still take effect)
   */
  async changeMembership(
    changes: readonly MembershipChange[],
    options: MembershipOptions = {},
  ): Promise<Index> {
    this.#assertLeader()
    // A new leader's log may end in changes of the old one: those must be applied first (raft.md
    // bug 18).
    await this.waitApplied(this.#driver.leadershipIndex, options)
    this.#assertLeader()
    if (this.#isRestoring) throw restoreRunning('UNAVAILABLE')
    if (this.#isChangePending()) throw changePending()
    assertUnchanged(this.configuration.index, options)
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
   * Meanwhile it takes no writes; given up after an election timeout (Ongaro §3.10).
   * @throws NOT_LEADER, NOT_FOUND, FAILED_PRECONDITION (no other voter, or another hand-over is
   * under way), TIMED_OUT
   */
  async transferLeadership(to?: ServerId, options: CallOptions = {}): Promise<void> {
    this.#assertLeader()
    await handover.transferLeadership({ raft: this, driver: this.#driver }, to, options)
  }

  /**
   * Leads no more: hands over, or, if nobody takes it in time, just stops leading; may be elected
   * again. @throws NOT_LEADER, FAILED_PRECONDITION (the only voter)
   */
  async stepDown(options: CallOptions = {}): Promise<void> {
    this.#assertLeader()
    await handover.stepDown({ raft: this, driver: this.#driver }, options)
  }

  /**
   * Asks for votes now instead of after the election timeout; resolves when this member leads. A
   * leader that lives is not deposed: members that hear it refuse (Ongaro §9.6).
   * @throws FAILED_PRECONDITION (no voter), TIMED_OUT (not elected)
   */
  async campaign(options: CallOptions = {}): Promise<void> {
    this.#assertRunning()
    await handover.campaign({ raft: this, driver: this.#driver }, options)
  }

  /**
   * Takes a snapshot now. With `timeoutMs` or `signal` the call may end before; the snapshot goes
   * on. @throws FAILED_PRECONDITION when nothing is applied, STORAGE_FULL …
   */
  async snapshot(options: CallOptions = {}): Promise<StoredSnapshot> {
    const { signal, timeoutMs = Number.POSITIVE_INFINITY } = options
    const message = 'raft snapshot: is not finished in time; it goes on'
    const call = this.#driver.calls.start<StoredSnapshot>({ signal, timeoutMs }, message)
    const settle = async (): Promise<void> => call.resolve(await this.#driver.snapshots.take())
    settle().catch((error: Error) => call.reject(error))
    return call.promise
  }

  /**
   * Replaces the state of the whole group by one from outside, such as an old snapshot's bytes; the
   * membership stays. Waiting proposals end with ABORTED; writes meanwhile are UNAVAILABLE. Happens
   * on all members at the entry that it gives, or on none (`restore-entries.ts`).
   * @throws NOT_LEADER and UNAVAILABLE (no effect), FAILED_PRECONDITION (one is under way),
   * INVALID_ARGUMENT (not `sizeBytes`), RESOURCE_EXHAUSTED (over `RESTORE_BYTES_MAX`), TIMED_OUT
   * (may still happen), or what `source` throws
   */
  async restore(source: AsyncIterable<Uint8Array>, options: RestoreOptions = {}): Promise<Index> {
    this.#assertLeader()
    if (this.#isRestoring) throw restoreRunning('FAILED_PRECONDITION')
    this.#isRestoring = true
    try {
      return await new Restore(this.#driver, options).run(source)
    } finally {
      this.#isRestoring = false
    }
  }

  /**
   * Changes options while this member runs; give all members the same timeouts.
   * @throws INVALID_ARGUMENT, FAILED_PRECONDITION: then nothing has changed
   */
  reloadConfig(changes: Partial<ReloadableConfig>): void {
    this.#driver.reconfigure(reloaded(this.#driver.options, changes))
  }

  /**
   * Stops. With `transfer`, a leader first hands over; if nobody takes it in time, or `signal`
   * aborts, it stops anyway.
   */
  async shutdown(
    options: { readonly transfer?: boolean; readonly signal?: AbortSignal } = {},
  ): Promise<void> {
    const { transfer = false, signal } = options
    if (transfer && this.role === 'leader' && this.#driver.isRunning) await this.#handOver(signal)
    this.end(new SwarmError('SHUTTING_DOWN', 'raft: is stopping'))
    await this.#driver.stop()
    markFree(this.#components.logStore)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.shutdown()
  }

  async #handOver(signal: AbortSignal | undefined): Promise<void> {
    const isAlone = this.#driver.membership.conf.voters.length < 2
    if (isAlone) return
    try {
      await this.transferLeadership(undefined, { signal })
    } catch (error) {
      if (!(error instanceof SwarmError)) throw error
      const fields = { err: errorText(error) }
      this.#components.log.warn(fields, 'leadership was not handed over')
    }
  }

  #propose(data: Uint8Array, options: CallOptions): ReturnType<Driver<R>['proposals']['add']> {
    this.#assertLeader()
    if (this.#isRestoring) throw restoreRunning('UNAVAILABLE')
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

  #assertRunning(): void {
    if (this.failure !== undefined) throw this.failure
    if (!this.#driver.isRunning) throw new SwarmError('SHUTTING_DOWN', 'raft: is stopping')
  }

  #assertLeader(): void {
    this.#assertRunning()
    if (this.role !== 'leader') throw notLeader()
  }

  #isChangePending(): boolean {
    const isOpen = this.#change.term === this.term && this.#change.index > this.appliedIndex
    if (isOpen || this.configuration.joint) return true
    return false
  }
}

function notLeader(): SwarmError {
  return new SwarmError('NOT_LEADER', 'raft: this member does not lead')
}
