/**
 * Drives the pure core: everything that goes in (ticks, messages, proposals, finished writes) and
 * everything that comes out (`Ready`), one turn at a time.
 *
 *   transport ─► step ┐                ┌─► transport        (at once)
 *   clock ────► tick ─┼─► core ─ ready ┼─► AppendWriter ─► durable ─► responses ─► core, transport
 *   apply() ► propose ┘                └─► Applier ─► state machine ─► responses ─► core
 *
 * Invariants: the core is only touched synchronously; a message that depends on a write leaves
 * after it (the core attaches it to the write); after a failure nothing leaves this node any more.
 * Source: etcd-io/raft `doc.go` (asynchronous storage writes), `reference/raft.md` §2.5, §6.3.
 */
import { SwarmError, errorText } from '../../base/errors.ts'
import { decodeConfChange } from '../core/conf-change-codec.ts'
import { NO_PEER, type Entry, type HardState, type Index, type PeerId } from '../core/entry.ts'
import type { Message, SnapshotRequest } from '../core/message.ts'
import { RaftCore } from '../core/raft-core.ts'
import type { Ready, Role, SoftState } from '../core/ready.ts'
import type { SnapshotMetadata } from '../core/entry.ts'
import { Announcer } from './announcer.ts'
import { AppendWriter } from './append-writer.ts'
import { coreOptions } from './core-settings.ts'
import { Applier } from './applier.ts'
import type { DriverHooks } from './driver-hooks.ts'
import { Failover } from './failover.ts'
import { farewells } from './farewell.ts'
import { figuresOf, type DriverFigures } from './figures.ts'
import { HeldCommits } from './held-commits.ts'
import { LogCache } from './log-cache.ts'
import { install } from './install.ts'
import { LeaderLease } from './lease.ts'
import { memberNumber } from './member-numbers.ts'
import { Members } from './members.ts'
import { decodeContext, type Membership } from './membership.ts'
import { isWireMessage } from './message-rows.ts'
import { LOCAL_ONLY, sortMessages } from './message-sorting.ts'
import type * as limits from './options.ts'
import { PendingCalls } from './pending-calls.ts'
import type { ServerId, SnapshotTransfer, TransportHandler } from './ports.ts'
import { Proposals } from './proposals.ts'
import { Reads } from './reads.ts'
import type { Recovered } from './recovery.ts'
import { SnapshotKeeper } from './snapshot-keeper.ts'
import { SnapshotTransfers } from './snapshot-transfers.ts'
import { Ticker } from './ticker.ts'

type Status = 'running' | 'stopped' | 'failed'

/** One member's consensus, running. */
export class Driver<R> implements TransportHandler {
  readonly #components: limits.RaftComponents<R>
  readonly #hooks: DriverHooks
  readonly #members: Members
  readonly core: RaftCore
  readonly calls: PendingCalls
  readonly proposals: Proposals<R>
  readonly reads: Reads
  readonly snapshots: SnapshotKeeper
  readonly #cache: LogCache
  readonly #writer: AppendWriter
  readonly #applier: Applier<R>
  readonly #transfers: SnapshotTransfers
  readonly #failover: Failover
  readonly #ticker: Ticker
  readonly #held: HeldCommits
  readonly #lease: LeaderLease
  readonly announcer: Announcer
  #options: limits.ResolvedRaftOptions
  #soft: SoftState = { lead: NO_PEER, role: 'follower' }
  #status: Status = 'running'
  #stopping: Promise<void> | undefined
  #turnScheduled = false
  /** The last index when this node became leader: from there on its log decides. */
  leadershipIndex: Index = 0

  constructor(
    components: limits.RaftComponents<R>,
    options: limits.ResolvedRaftOptions,
    start: { readonly recovered: Recovered; readonly hooks: DriverHooks },
  ) {
    const { recovered, hooks } = start
    this.#components = components
    this.#hooks = hooks
    this.#options = options
    this.#members = new Members(options.id, recovered.membership)
    this.#held = new HeldCommits(components.clock, (peer, messages) => {
      const name = this.#members.nameOf(peer)
      if (name !== undefined) components.transport.send(name, messages)
    })
    this.announcer = new Announcer(components.clock, this.#members, hooks.onObservation)
    this.calls = new PendingCalls(components.clock, options.timeoutMs)
    this.proposals = new Proposals(this.calls)
    const retryMs = (options.tickMs * options.electionTicks) / 2
    this.reads = new Reads({ ...components, calls: this.calls }, retryMs)
    this.#cache = new LogCache(recovered, () => this.snapshots.sendable())
    this.#applier = this.#newApplier(recovered)
    this.#writer = this.#newWriter(recovered.hardState)
    this.#transfers = new SnapshotTransfers(components, {
      status: () => this.core.status(),
      onEnd: (peer, ok) => this.#onSent(peer, ok),
      tell: hooks.onObservation,
    })
    this.snapshots = this.#newKeeper(options, recovered)
    const place = { id: this.#members.self, applied: recovered.applied.index }
    const { random } = components
    this.core = RaftCore.restore({ ...coreOptions(options), ...place, random }, this.#cache)
    this.#failover = new Failover(components, {
      isLeaderless: () => this.#soft.lead === NO_PEER,
      campaign: () => this.act(() => this.core.campaign()),
    })
    this.#lease = new LeaderLease({ clock: components.clock, core: this.core })
    this.#ticker = new Ticker(components.clock, options.tickMs, () => this.#tick())
  }

  #newWriter(hardState: HardState): AppendWriter {
    const { logStore, clock } = this.#components
    const { writeBytes } = this.#options
    return new AppendWriter({ logStore, clock, writeBytes, cache: this.#cache }, hardState, {
      onDurable: (responses) => this.act(() => this.#deliver(responses)),
      install: (metadata, hard) => this.#install(metadata, hard),
      onIdle: () => this.schedule(),
      onFailure: (error) => this.fail(error),
    })
  }

  #newApplier({ applied }: Recovered): Applier<R> {
    return new Applier(this.#components, applied, {
      onEntry: ({ index, term }, response) => this.proposals.onApplied(index, term, response),
      onConfChange: (entry) => this.#onConfChange(entry),
      onRestored: ({ index }, sizeBytes) => {
        this.#hooks.onObservation({ type: 'restored', index, sizeBytes })
        this.snapshots.onRestored()
      },
      onProgress: (sizeBytes) => {
        this.#hooks.onApplied()
        this.snapshots.onApplied(sizeBytes)
      },
      onDone: (responses) => this.act(() => this.#deliver(responses)),
      onFailure: (error) => this.fail(error),
    })
  }

  #newKeeper(options: limits.ResolvedRaftOptions, recovered: Recovered): SnapshotKeeper {
    const parts = { ...this.#components, cache: this.#cache }
    return new SnapshotKeeper(parts, options, {
      newest: recovered.snapshot,
      hooks: {
        position: () => ({ ...this.#applier.snapshotPosition, membership: this.membership }),
        exclusive: (run) => this.#writer.exclusive(run),
        heldIndex: () => this.#transfers.heldIndex(this.#options.trailingEntries),
        mayTake: () => !this.#applier.restoring,
        onTaken: (stored) => this.announcer.snapshot('snapshotTaken', stored),
      },
    })
  }

  get role(): Role {
    return this.#soft.role
  }

  get leader(): ServerId | undefined {
    return this.#soft.lead === NO_PEER ? undefined : this.#members.nameOf(this.#soft.lead)
  }

  get membership(): Membership {
    return this.#members.membership
  }

  get appliedIndex(): Index {
    return this.#applier.appliedIndex
  }

  get isRunning(): boolean {
    return this.#status === 'running'
  }

  get options(): limits.ResolvedRaftOptions {
    return this.#options
  }

  /** Limits and timeouts from now on. */
  reconfigure(options: limits.ResolvedRaftOptions): void {
    this.#options = options
    this.snapshots.setLimits(options)
    this.core.reconfigure(options)
  }

  /** Whether this leader's lease holds at this moment: no other can lead. */
  holdsLease(): boolean {
    return this.#lease.isHeld(this.#options, this.#members.isOnlyVoter)
  }

  /** Figures for people and metrics. */
  figures(): DriverFigures {
    const { role, core, proposals, snapshots, appliedIndex } = this
    return figuresOf({ role, core, proposals, snapshots, appliedIndex, cache: this.#cache })
  }

  start(): void {
    this.#ticker.start()
    this.#components.transport.start(this)
    this.schedule()
  }

  /** Stops in order: nothing comes in, what is queued is written, then all is closed. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  async #stop(): Promise<void> {
    const failed = this.#status === 'failed'
    this.#status = 'stopped'
    this.#halt(new SwarmError('SHUTTING_DOWN', 'raft: is stopping'))
    const { transport, logStore, snapshotStore } = this.#components
    await transport.close()
    await this.#transfers.stop()
    await this.snapshots.stop()
    if (!failed) await this.#writer.stop()
    await snapshotStore.close()
    await logStore.close()
  }

  /** Something that must not fail has failed: this node takes no part any more. */
  fail(cause: unknown): void {
    if (this.#status !== 'running') return
    this.#status = 'failed'
    const error =
      cause instanceof SwarmError ? cause : new SwarmError('INTERNAL', 'raft: failed', { cause })
    this.#components.log.error({ code: error.code, err: errorText(error) }, 'raft has failed')
    this.#writer.abort()
    this.#halt(error)
    this.#soft = { lead: NO_PEER, role: 'follower' }
    this.#hooks.onLeadership()
    this.#hooks.onFatal(error)
  }

  #halt(error: SwarmError): void {
    this.#ticker.stop()
    this.#failover.stop()
    this.#held.stop()
    this.#applier.stop()
    this.calls.close(error)
  }

  /** Touches the core, then lets a turn take what comes out. */
  act(action: () => void): void {
    if (this.#status !== 'running') return
    action()
    this.schedule()
  }

  /** A turn will run when the present one ends: what comes until then goes with it. */
  schedule(): void {
    if (this.#turnScheduled || this.#status !== 'running') return
    this.#turnScheduled = true
    void Promise.resolve().then(() => this.#turn())
  }

  onMessage(from: ServerId, message: Message): void {
    if (this.#status !== 'running' || !isWireMessage(message)) return
    if (!this.#isOwn(from, message) || LOCAL_ONLY.has(message.type)) {
      this.#components.log.warn({ peer: from, type: message.type }, 'refused a raft message')
      return
    }
    this.announcer.heard(from)
    if (message.type === 'timeoutNow') void this.#campaignSoon(message)
    else this.act(() => this.core.step(message))
  }

  /** First what is committed is applied: a change of membership there would forbid a campaign. */
  async #campaignSoon(message: Message): Promise<void> {
    await Promise.resolve() // The turn that hands out what came just before.
    await this.#applier.drained()
    this.act(() => this.core.step(message))
  }

  /** Whether `message` says truly who sent it, and is for this member. */
  #isOwn(from: ServerId, message: Message): boolean {
    return message.from === this.#members.meet(from) && message.to === this.#members.self
  }

  async onSnapshot(from: ServerId, transfer: SnapshotTransfer): Promise<void> {
    const { message, metadata } = transfer
    if (this.#status !== 'running' || message.type !== 'snap' || !this.#isOwn(from, message)) {
      throw new SwarmError('UNAVAILABLE', 'snapshot: is not for this node now')
    }
    if (this.#writer.installing) {
      throw new SwarmError('UNAVAILABLE', 'snapshot: another one is being installed')
    }
    const isUseful = metadata.index > this.core.commitIndex && message.term >= this.core.term
    if (isUseful) await this.#transfers.receive(transfer)
    this.act(() => this.core.step(message))
  }

  onUnreachable(peer: ServerId, reason: 'closed' | 'timeout'): void {
    if (this.#status !== 'running') return
    const number = memberNumber(peer)
    this.act(() => this.core.reportUnreachable(number))
    if (reason !== 'closed' || this.#soft.lead !== number || this.#soft.role !== 'follower') return
    this.act(() => this.core.forgetLeader())
    if (this.#members.isVoter) this.#failover.start()
  }

  #tick(): void {
    const startMs = this.#components.clock.monotonicMs()
    const openedRound = this.core.leaseRounds?.openedRound
    this.act(() => (this.#isAlone() ? this.core.campaign() : this.core.tick()))
    this.#lease.onTick(this.#options, { startMs, openedRound })
    this.announcer.look(this.#options.tickMs * this.#options.electionTicks)
    if (this.reads.freshness.isDue(this.appliedIndex)) this.reads.renew()
    this.reads.retry()
    this.calls.sweep()
    this.#hooks.onTick()
  }

  /**
   * The only voter need not wait for anybody to lead. With leases it does: it may have granted one
   * to a leader that was removed since.
   */
  #isAlone(): boolean {
    return this.role !== 'leader' && !this.#options.leaseReads && this.#members.isOnlyVoter
  }

  #turn(): void {
    this.#turnScheduled = false
    if (this.#status !== 'running') return
    this.reads.flush((context) => this.core.readIndex(context))
    if (!this.#writer.busy) this.proposals.flush(this.core)
    while (this.isRunning && this.core.hasReady()) this.#handle(this.core.ready())
  }

  #handle(ready: Ready): void {
    if (ready.soft !== undefined) this.#onSoftState(ready.soft)
    this.reads.onReadStates(ready.readStates)
    this.#deliver(ready.messages)
  }

  /** Brings messages to where they belong: the threads, this core, or other members. */
  #deliver(messages: readonly Message[]): void {
    const sorted = sortMessages(messages, this.#members.self)
    // First to the others: their writes are what commit waits for.
    for (const [peer, group] of sorted.toOthers) this.#held.send(peer, group)
    for (const message of sorted.toWrite) this.#writer.enqueue(message)
    for (const message of sorted.toSelf) this.core.step(message)
    for (const message of sorted.snapshots) this.#sendSnapshot(message)
    for (const message of sorted.toApply) this.#applier.enqueue(message)
  }

  #sendSnapshot(message: SnapshotRequest): void {
    const name = this.#members.nameOf(message.to)
    if (name !== undefined) this.#transfers.send(name, message)
  }

  #onSent(peer: PeerId, ok: boolean): void {
    this.act(() => this.core.reportSnapshot(peer, ok))
    this.snapshots.compact()
  }

  #onSoftState(soft: SoftState): void {
    const before = this.#soft
    this.#soft = soft
    const { term, lastIndex } = this.core
    if (soft.role === 'leader' && before.role !== 'leader') this.leadershipIndex = lastIndex
    if (soft.role !== 'leader') this.proposals.onLeadershipLost()
    if (soft.lead !== NO_PEER) this.#failover.stop()
    if (soft.role === before.role && soft.lead === before.lead) return
    const fields = { role: soft.role, term, leader: this.leader }
    this.#components.log.info(fields, 'raft role changed')
    this.announcer.softState(before, soft, term)
    this.#hooks.onLeadership()
  }

  #onNewMembers(): void {
    this.#lease.forget()
    this.announcer.membersChanged()
    this.#hooks.onConfiguration()
  }

  #onConfChange(entry: Entry): void {
    const change = decodeConfChange(entry.data)
    this.#deliver(farewells(this.core.status(), change, entry.index))
    const conf = this.core.applyConfChange(change)
    this.#members.change(conf, decodeContext(change.context), entry.index)
    this.#onNewMembers()
    this.schedule()
  }

  async #install(metadata: SnapshotMetadata, hardState: HardState): Promise<void> {
    const { proposals, snapshots } = this
    const own = { transfers: this.#transfers, applier: this.#applier, cache: this.#cache }
    const parts = { ...own, components: this.#components, members: this.#members }
    const stored = await install({ ...parts, proposals, snapshots }, metadata, hardState)
    this.announcer.snapshot('snapshotInstalled', stored)
    this.#onNewMembers()
    this.#hooks.onApplied()
  }
}
