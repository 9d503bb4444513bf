/**
 * Keeps the load balancer as the store wants it: initialise from the store, mark dirty on commits
 * and on links that come and go, apply the whole wanted state (`wanted-servers.ts`). Changes in
 * quick succession are one `apply`. A fault is tried again by timer until it is gone.
 */
import type { Clock, Timer } from '../base/clock.ts'
import { isSwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Task } from '../store/objects.ts'
import type { Commit, StoreView } from '../store/view.ts'
import type { BalancerFault, LoadBalancer, VirtualServer } from './ports.ts'
import { wantedServers } from './wanted-servers.ts'
import type { LinkState, NetworkOptions } from './wanted-servers.ts'

/** Milliseconds in which commits are gathered into one `apply`. */
export const APPLY_COALESCE_MS = 10

/** Milliseconds after which a server that could not be made is tried again. */
export const FAULT_RETRY_MS = 5_000

/**
 * What this node itself knows of its tasks, which the store learns later, or never without a
 * leader.
 */
export interface OwnTasks {
  /** Each with the status observed last; also those that the store does not know yet. */
  tasks(): readonly Task[]
  /** Calls `listener` after each change of a status; returns the undo. */
  onChange(listener: () => void): () => void
}

/** How other nodes can be reached. */
export interface PeerLinks {
  linkTo(nodeId: string): LinkState
  /** Calls `listener` after each change; returns the undo. */
  onChange(listener: () => void): () => void
}

/** What the reconciler needs. */
export interface NetworkComponents {
  readonly store: StoreView
  readonly balancer: LoadBalancer
  readonly log: Logger
  readonly clock: Clock
  /** Absent: this node's tasks are as the store says. */
  readonly ownTasks?: OwnTasks
  /** Absent: every node has a link. */
  readonly links?: PeerLinks
}

/** {@link NetworkOptions}, and what the kernel does. */
export interface ReconcilerOptions extends NetworkOptions {
  /** Whether other nodes' tasks are reached by the kernel's routes. */
  readonly routed?: boolean
}

/** The load balancer's state, for `info`. */
export interface NetworkStatus {
  readonly driver: LoadBalancer['name']
  readonly reason: string
  readonly servers: number
  readonly faults: readonly BalancerFault[]
}

/** Keeps a load balancer as the store wants it. */
export class NetworkReconciler {
  readonly #components: NetworkComponents
  readonly #options: ReconcilerOptions
  #unsubscribe: (() => void) | undefined
  #timer: Timer | undefined
  #retryTimer: Timer | undefined
  #applying: Promise<void> | undefined
  #dirty = false
  #servers = 0
  #faults: readonly BalancerFault[] = []

  constructor(components: NetworkComponents, options: ReconcilerOptions) {
    this.#components = components
    this.#options = options
  }

  /** Applies what the store says now and follows it from here on. */
  start(): void {
    if (this.#unsubscribe !== undefined) return
    const { store, ownTasks, links } = this.#components
    const undo = [
      store.onCommit((commit) => this.#onCommit(commit)),
      ownTasks?.onChange(() => this.#markDirty()),
      links?.onChange(() => this.#markDirty()),
    ]
    this.#unsubscribe = () => undo.forEach((one) => one?.())
    this.#markDirty()
  }

  /** Stops following; the balancer stays as it is until its owner closes it. */
  async stop(): Promise<void> {
    this.#unsubscribe?.()
    this.#unsubscribe = undefined
    this.#timer?.cancel()
    this.#timer = undefined
    this.#retryTimer?.cancel()
    this.#retryTimer = undefined
    await this.#applying
  }

  /** What the balancer does and what it cannot do. */
  status(): NetworkStatus {
    const { name, reason } = this.#components.balancer
    return { driver: name, reason, servers: this.#servers, faults: this.#faults }
  }

  #onCommit(commit: Commit): void {
    const matters =
      commit.type === 'restored' || commit.changes.some((change) => change.table !== 'cluster')
    if (matters) this.#markDirty()
  }

  #markDirty(): void {
    this.#dirty = true
    if (this.#unsubscribe === undefined || this.#applying !== undefined) return
    this.#timer ??= this.#components.clock.after(APPLY_COALESCE_MS, () => {
      this.#timer = undefined
      this.#applying = this.#apply().finally(() => {
        this.#applying = undefined
        if (this.#dirty) this.#markDirty()
      })
    })
  }

  async #apply(): Promise<void> {
    this.#dirty = false
    const wanted = this.#wanted()
    const faults = await this.#applyNow(wanted)
    this.#servers = wanted.length
    this.#report(faults)
    this.#retryTimer?.cancel()
    this.#retryTimer = undefined
    if (faults.length === 0 || this.#unsubscribe === undefined) return
    this.#retryTimer = this.#components.clock.after(FAULT_RETRY_MS, () => this.#markDirty())
  }

  #wanted(): VirtualServer[] {
    const { store, ownTasks, links, balancer } = this.#components
    const { routed = false } = this.#options
    const { hasVirtualAddresses } = balancer
    const scene = {
      store,
      routed,
      hasVirtualAddresses,
      ...(ownTasks === undefined ? {} : { own: ownTasks.tasks() }),
      ...(links === undefined ? {} : { linkTo: (id: string) => links.linkTo(id) }),
    }
    return wantedServers(scene, this.#options)
  }

  /** A driver that fails as a whole is a fault of every server. */
  async #applyNow(wanted: readonly VirtualServer[]): Promise<readonly BalancerFault[]> {
    try {
      return await this.#components.balancer.apply(wanted)
    } catch (error) {
      if (!isSwarmError(error)) throw error
      return wanted.map((server) => ({ id: server.id, message: error.message }))
    }
  }

  /** Logs what began and what ended; a fault that stays is silent. */
  #report(faults: readonly BalancerFault[]): void {
    const { log } = this.#components
    const before = new Set(this.#faults.map((fault) => fault.message))
    const now = new Set(faults.map((fault) => fault.message))
    for (const fault of faults) {
      if (!before.has(fault.message)) log.warn({ ...fault }, 'published port does not work')
    }
    for (const fault of this.#faults) {
      if (!now.has(fault.message)) log.info({ server: fault.id }, 'published port works again')
    }
    this.#faults = faults
  }
}
