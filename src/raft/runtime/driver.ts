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
import { AppendWriter } from './append-writer.ts'
import { coreOptions } from './core-settings.ts'
import { Applier } from './applier.ts'
import { Failover } from './failover.ts'
import { farewells } from './farewell.ts'
import type { DriverFigures } from './figures.ts'
import { HeldCommits } from './held-commits.ts'
import { LogCache } from './log-cache.ts'
import { MemberNames, memberNumber } from './member-numbers.ts'
import { Membership, decodeContext } from './membership.ts'
import { isWireMessage } from './message-rows.ts'
import { sortMessages } from './message-sorting.ts'
import * as limits from './options.ts'
import { PendingCalls } from './pending-calls.ts'
import type { ServerId, SnapshotTransfer, TransportHandler } from './ports.ts'
import { Proposals } from './proposals.ts'
import { Reads } from './reads.ts'
import type { Recovered } from './recovery.ts'
import { SnapshotKeeper } from './snapshot-keeper.ts'
import { SnapshotTransfers } from './snapshot-transfers.ts'
import { Ticker } from './ticker.ts'

/** What the driver tells the `Raft` above it. */
export interface DriverHooks {
  readonly onLeadership: () => void
  readonly onConfiguration: () => void
  readonly onApplied: () => void
  readonly onFatal: (error: SwarmError) => void
}

type Status = 'running' | 'stopped' | 'failed'

/** One member's consensus, running. */
export class Driver<R> implements TransportHandler {
  readonly #components: limits.RaftComponents<R>
  readonly #hooks: DriverHooks
  readonly #self: PeerId
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
  readonly #names: MemberNames
  readonly #held: HeldCommits
  #membership: Membership
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
    this.#self = memberNumber(options.id)
    this.#membership = recovered.membership
    this.#names = new MemberNames(limits.STRANGERS_MAX)
    this.#names.setMembers(recovered.membership.ids)
    this.#held = new HeldCommits(components.clock, (peer, messages) => {
      const name = this.#names.nameOf(peer)
      if (name !== undefined) components.transport.send(name, messages)
    })
    this.calls = new PendingCalls(components.clock, options.timeoutMs)
    this.proposals = new Proposals(this.calls)
    const retryMs = (options.tickMs * options.electionTicks) / 2
    this.reads = new Reads({ ...components, calls: this.calls }, retryMs)
    this.#cache = new LogCache(recovered, () => this.snapshots.sendable())
    this.#applier = this.#newApplier(recovered)
    this.#writer = this.#newWriter(recovered.hardState)
    this.#transfers = new SnapshotTransfers(components, (peer, ok) => this.#onSent(peer, ok))
    this.snapshots = this.#newKeeper(options, recovered)
    this.core = RaftCore.restore(
      {
        ...coreOptions(options),
        id: this.#self,
        random: components.random,
        applied: recovered.applied.index,
      },
      this.#cache,
    )
    this.#failover = new Failover(components, {
      isLeaderless: () => this.#soft.lead === NO_PEER,
      campaign: () => this.act(() => this.core.campaign()),
    })
    this.#ticker = new Ticker(components.clock, options.tickMs, () => this.#tick())
  }

  #newWriter(hardState: HardState): AppendWriter {
    const { logStore, clock } = this.#components
    return new AppendWriter({ logStore, clock, cache: this.#cache }, hardState, {
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
        position: () => ({
          index: this.#applier.appliedIndex,
          term: this.#applier.appliedTerm,
          membership: this.#membership,
        }),
        exclusive: (run) => this.#writer.exclusive(run),
        heldIndex: () => {
          return this.#transfers.heldIndex(this.core.status(), options.trailingEntries)
        },
      },
    })
  }

  get role(): Role {
    return this.#soft.role
  }

  get leader(): ServerId | undefined {
    return this.#soft.lead === NO_PEER ? undefined : this.#names.nameOf(this.#soft.lead)
  }

  get membership(): Membership {
    return this.#membership
  }

  get appliedIndex(): Index {
    return this.#applier.appliedIndex
  }

  get isRunning(): boolean {
    return this.#status === 'running'
  }

  /** Figures for people and metrics. */
  figures(): DriverFigures {
    const { hard, lastIndex } = this.core.status()
    return {
      role: this.#soft.role,
      term: hard.term,
      firstIndex: this.#cache.firstIndex(),
      lastIndex,
      commitIndex: hard.commit,
      appliedIndex: this.appliedIndex,
      snapshotIndex: this.snapshots.newest?.metadata.index ?? 0,
      logBytes: this.#cache.sizeBytes,
      proposalsWaiting: this.proposals.waitingCount,
    }
  }

  logHandOverFailure(error: SwarmError): void {
    this.#components.log.warn({ err: errorText(error) }, 'leadership was not handed over')
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
    const isOwn = message.from === this.#names.meet(from) && message.to === this.#self
    if (!isOwn || LOCAL_ONLY.has(message.type)) {
      this.#components.log.warn({ peer: from, type: message.type }, 'refused a raft message')
      return
    }
    this.act(() => this.core.step(message))
  }

  async onSnapshot(from: ServerId, transfer: SnapshotTransfer): Promise<void> {
    const { message, metadata } = transfer
    const isOwn = message.from === this.#names.meet(from) && message.to === this.#self
    if (this.#status !== 'running' || message.type !== 'snap' || !isOwn) {
      throw new SwarmError('UNAVAILABLE', 'snapshot: is not for this node now')
    }
    const { hard } = this.core.status()
    if (this.#writer.installing) {
      throw new SwarmError('UNAVAILABLE', 'snapshot: another one is being installed')
    }
    const isUseful = metadata.index > hard.commit && message.term >= hard.term
    if (isUseful) await this.#transfers.receive(transfer)
    this.act(() => this.core.step(message))
  }

  onUnreachable(peer: ServerId, reason: 'closed' | 'timeout'): void {
    if (this.#status !== 'running') return
    const number = memberNumber(peer)
    this.act(() => this.core.reportUnreachable(number))
    if (reason !== 'closed' || this.#soft.lead !== number || this.#soft.role !== 'follower') return
    this.act(() => this.core.forgetLeader())
    if (this.#membership.conf.voters.includes(this.#self)) this.#failover.start()
  }

  #tick(): void {
    this.act(() => (this.#isAlone() ? this.core.campaign() : this.core.tick()))
    this.reads.retry()
    this.calls.sweep()
  }

  /** The only voter need not wait for anybody to lead. */
  #isAlone(): boolean {
    const { voters, votersOutgoing } = this.#membership.conf
    if (this.#soft.role === 'leader' || votersOutgoing.length > 0) return false
    return voters.length === 1 && voters[0] === this.#self
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
    const sorted = sortMessages(messages, this.#self)
    // First to the others: their writes are what commit waits for.
    for (const [peer, group] of sorted.toOthers) this.#held.send(peer, group)
    for (const message of sorted.toWrite) this.#writer.enqueue(message)
    for (const message of sorted.toSelf) this.core.step(message)
    for (const message of sorted.snapshots) this.#sendSnapshot(message)
    for (const message of sorted.toApply) this.#applier.enqueue(message)
  }

  #sendSnapshot(message: SnapshotRequest): void {
    const name = this.#names.nameOf(message.to)
    if (name !== undefined) this.#transfers.send(name, message)
  }

  #onSent(peer: PeerId, ok: boolean): void {
    this.act(() => this.core.reportSnapshot(peer, ok))
    this.snapshots.compact()
  }

  #onSoftState(soft: SoftState): void {
    const before = this.#soft
    this.#soft = soft
    const { hard, lastIndex } = this.core.status()
    if (soft.role === 'leader' && before.role !== 'leader') this.leadershipIndex = lastIndex
    if (soft.role !== 'leader') this.proposals.onLeadershipLost()
    if (soft.lead !== NO_PEER) this.#failover.stop()
    if (soft.role === before.role && soft.lead === before.lead) return
    const fields = { role: soft.role, term: hard.term, leader: this.leader }
    this.#components.log.info(fields, 'raft role changed')
    this.#hooks.onLeadership()
  }

  #onConfChange(entry: Entry): void {
    const change = decodeConfChange(entry.data)
    this.#deliver(farewells(this.core.status(), change, entry.index))
    const conf = this.core.applyConfChange(change)
    this.#membership = this.#membership.changed(conf, decodeContext(change.context), entry.index)
    this.#names.setMembers(this.#membership.ids)
    this.#hooks.onConfiguration()
    this.schedule()
  }

  /** A received snapshot, stored already, takes the place of log and state machine. */
  async #install(metadata: SnapshotMetadata, hardState: HardState): Promise<void> {
    await this.#applier.drained()
    const { logStore, snapshotStore, stateMachine, log } = this.#components
    const stored = await this.#transfers.find(metadata)
    await logStore.reset(metadata, hardState)
    await stateMachine.restore(snapshotStore.read(stored.id), metadata.index)
    this.#cache.reset(metadata)
    this.#applier.restored(metadata.index, metadata.term)
    this.#membership = Membership.decode(metadata.conf, stored.membership)
    this.#names.setMembers(this.#membership.ids)
    this.snapshots.installed(stored)
    this.proposals.onRestored(metadata.index)
    log.info({ index: metadata.index, sizeBytes: stored.sizeBytes }, 'installed a snapshot')
    this.#hooks.onConfiguration()
    this.#hooks.onApplied()
  }
}

/** Members do not forward proposals or transfers: the runtime refuses them where they are made. */
const LOCAL_ONLY: ReadonlySet<Message['type']> = new Set([
  'prop',
  'transferLeader',
  'snap',
] as const)
