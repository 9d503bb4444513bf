/**
 * Keeps the load balancer as the store wants it: applies the whole wanted state once, then what
 * commits, this node's tasks and links change in it (`server-derivation.ts`). Changes in quick
 * succession are one. A fault is tried again by timer until it is gone.
 */
import type { Clock, Timer } from '../base/clock.ts'
import { isSwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Task } from '../store/objects.ts'
import type { StoreView } from '../store/view.ts'
import { Progress } from './drain/progress.ts'
import type { Programmed } from './drain/progress.ts'
import type { BalancerFault, LoadBalancer, ServerChange } from './ports.ts'
import { ServerDerivation } from './server-derivation.ts'
import { TimeSlices } from './time-slices.ts'
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
  readonly #derivation: ServerDerivation
  readonly #progress: Progress
  #unsubscribe: (() => void) | undefined
  #timer: Timer | undefined
  #retryTimer: Timer | undefined
  #applying: Promise<void> | undefined
  #dirty = false
  /** Whether the balancer was told everything. */
  #hasApplied = false
  /** Whether what failed is to be tried again, whatever changed. */
  #isRetry = false
  #faults: readonly BalancerFault[] = []

  constructor(components: NetworkComponents, options: ReconcilerOptions) {
    this.#components = components
    const { store, ownTasks, links, clock, balancer } = components
    const { hasVirtualAddresses } = balancer
    this.#progress = new Progress(store)
    this.#derivation = new ServerDerivation(
      {
        store,
        slices: new TimeSlices(clock),
        ...(ownTasks === undefined ? {} : { ownTasks: () => ownTasks.tasks() }),
        ...(links === undefined ? {} : { linkTo: (id: string) => links.linkTo(id) }),
      },
      { ...options, hasVirtualAddresses },
    )
  }

  /** Up to where the balancer has what the store says. */
  get progress(): Programmed {
    return this.#progress
  }

  /** Applies what the store says now and follows it from here on. */
  start(): void {
    if (this.#unsubscribe !== undefined) return
    const { store, ownTasks, links } = this.#components
    const undo = [
      store.onCommit((commit) => {
        if (this.#derivation.noteCommit(commit)) this.#markDirty()
      }),
      ownTasks?.onChange(() => {
        this.#derivation.noteOwnTasks()
        this.#markDirty()
      }),
      links?.onChange(() => {
        this.#derivation.noteLinks()
        this.#markDirty()
      }),
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
    this.#progress.stop()
    await this.#applying
  }

  /** What the balancer does and what it cannot do. */
  status(): NetworkStatus {
    const { name, reason } = this.#components.balancer
    return { driver: name, reason, servers: this.#derivation.servers.size, faults: this.#faults }
  }

  #markDirty(): void {
    this.#dirty = true
    this.#progress.note()
    if (this.#unsubscribe === undefined || this.#applying !== undefined) return
    this.#timer ??= this.#components.clock.after(APPLY_COALESCE_MS, () => {
      this.#timer = undefined
      this.#progress.begin()
      this.#applying = this.#apply().finally(() => {
        this.#applying = undefined
        this.#progress.end()
        if (this.#dirty) this.#markDirty()
      })
    })
  }

  async #apply(): Promise<void> {
    this.#dirty = false
    const isRetry = this.#isRetry
    this.#isRetry = false
    const change = await this.#derivation.refresh()
    const isNothing = change.set.length + change.removed.length === 0
    if (isNothing && this.#hasApplied && !isRetry) return
    this.#report(await this.#applyNow(change))
    this.#retryTimer?.cancel()
    this.#retryTimer = undefined
    if (this.#faults.length === 0 || this.#unsubscribe === undefined) return
    this.#retryTimer = this.#components.clock.after(FAULT_RETRY_MS, () => {
      this.#isRetry = true
      this.#markDirty()
    })
  }

  /** A driver that fails as a whole is a fault of every server. */
  async #applyNow(change: ServerChange): Promise<readonly BalancerFault[]> {
    const { balancer } = this.#components
    const { servers } = this.#derivation
    try {
      if (this.#hasApplied) return await balancer.change(change)
      this.#hasApplied = true
      return await balancer.apply([...servers.values()])
    } catch (error) {
      if (!isSwarmError(error)) throw error
      return [...servers.keys()].map((id) => ({ id, message: error.message }))
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
