/**
 * What this node's load balancer should do, read from the store. The pure part, `wantedServers`,
 * derives the virtual servers; `NetworkReconciler` keeps the driver so: initialise from the store,
 * mark dirty on commits, apply the whole wanted state. Commits in quick succession are one `apply`.
 *
 * Invariants: a replica is a backend while it is observed running on a node that is not down; it
 * gets new connections only while it is also wanted running, so a replica that is being stopped
 * drains through its grace period. Of its own replicas the node believes itself: they answer
 * through it also when no leader has heard of their restart. A fault is tried again by timer until
 * it is gone.
 */
import type { Clock, Timer } from '../base/clock.ts'
import { isSwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { AllocatedPort, Node, Service, Task } from '../store/objects.ts'
import type { Commit, StoreView } from '../store/view.ts'
import type { Backend, BalancerFault, LoadBalancer, VirtualServer } from './ports.ts'

/** Milliseconds in which commits are gathered into one `apply`. */
export const APPLY_COALESCE_MS = 10

/** Milliseconds after which a server that could not be made is tried again. */
export const FAULT_RETRY_MS = 5_000

/** Weight of a replica that takes connections; replicas are equal. */
const WEIGHT = 1

/** Whose balancer this is and where it listens. */
export interface NetworkOptions {
  readonly nodeId: string
  /** `0.0.0.0` = all of this node's addresses. */
  readonly listenAddress: string
}

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

/** What the reconciler needs. */
export interface NetworkComponents {
  readonly store: StoreView
  readonly balancer: LoadBalancer
  readonly log: Logger
  readonly clock: Clock
  /** Absent: this node's tasks are as the store says. */
  readonly ownTasks?: OwnTasks
}

/** The load balancer's state, for `info`. */
export interface NetworkStatus {
  readonly driver: LoadBalancer['name']
  readonly reason: string
  readonly servers: number
  readonly faults: readonly BalancerFault[]
}

/** The virtual servers that `store` asks of the node, in order of service id and port. */
export function wantedServers(
  store: StoreView,
  options: NetworkOptions,
  own?: readonly Task[],
): VirtualServer[] {
  return store.list('services').flatMap((service) => {
    const ports = service.endpoint?.ports ?? []
    const known = store.find('tasks', 'serviceId', service.id)
    const tasks = own === undefined ? known : withOwn(known, { own, service, options })
    return ports
      .filter((port) => port.publishedPort > 0)
      .flatMap((port) => {
        const backends = backendsOf({ store, tasks, port, options })
        // In host mode the port is the node's only where a replica is.
        if (port.publishMode === 'host' && backends.length === 0) return []
        return [virtualServer(service, port, { backends, address: options.listenAddress })]
      })
  })
}

/** Keeps a load balancer as the store wants it. */
export class NetworkReconciler {
  readonly #components: NetworkComponents
  readonly #options: NetworkOptions
  #unsubscribe: (() => void) | undefined
  #timer: Timer | undefined
  #retryTimer: Timer | undefined
  #applying: Promise<void> | undefined
  #dirty = false
  #servers = 0
  #faults: readonly BalancerFault[] = []

  constructor(components: NetworkComponents, options: NetworkOptions) {
    this.#components = components
    this.#options = options
  }

  /** Applies what the store says now and follows it from here on. */
  start(): void {
    if (this.#unsubscribe !== undefined) return
    const { store, ownTasks } = this.#components
    const undo = [
      store.onCommit((commit) => this.#onCommit(commit)),
      ownTasks?.onChange(() => this.#markDirty()),
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
    const { store, ownTasks } = this.#components
    const wanted = wantedServers(store, this.#options, ownTasks?.tasks())
    const faults = await this.#applyNow(wanted)
    this.#servers = wanted.length
    this.#report(faults)
    this.#retryTimer?.cancel()
    this.#retryTimer = undefined
    if (faults.length === 0 || this.#unsubscribe === undefined) return
    this.#retryTimer = this.#components.clock.after(FAULT_RETRY_MS, () => this.#markDirty())
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

function virtualServer(
  service: Service,
  port: AllocatedPort,
  where: Pick<VirtualServer, 'address' | 'backends'>,
): VirtualServer {
  const { protocol, publishedPort } = port
  const id = `${service.id}/${protocol}/${publishedPort}`
  return { id, protocol, port: publishedPort, ...where }
}

function backendsOf(query: {
  readonly store: StoreView
  readonly tasks: readonly Task[]
  readonly port: AllocatedPort
  readonly options: NetworkOptions
}): Backend[] {
  const { store, tasks, port, options } = query
  const backends: Backend[] = []
  for (const task of tasks) {
    if (task.status.state !== 'running') continue
    if (port.publishMode === 'host' && task.nodeId !== options.nodeId) continue
    const node = store.get('nodes', task.nodeId)
    if (node === undefined || isDown(node, options)) continue
    const where = taskAddress(task, port.targetPort)
    if (where === undefined) continue
    const weight = task.desiredState === 'running' ? WEIGHT : 0
    const local = task.nodeId === options.nodeId
    backends.push({ taskId: task.id, nodeId: task.nodeId, local, ...where, weight })
  }
  return backends
}

/** The tasks of a service: the others' as the store says, this node's as it sees them itself. */
function withOwn(
  known: readonly Task[],
  about: {
    readonly own: readonly Task[]
    readonly service: Service
    readonly options: NetworkOptions
  },
): Task[] {
  const { own, service, options } = about
  const wishes = new Map(known.map((task) => [task.id, task.desiredState]))
  const mine = own
    .filter((task) => task.serviceId === service.id)
    .map((task) => ({ ...task, desiredState: wishes.get(task.id) ?? task.desiredState }))
  return [...known.filter((task) => task.nodeId !== options.nodeId), ...mine]
}

/** A node that reads this is up, whatever the leader, cut off from it, may have written. */
function isDown(node: Node, options: NetworkOptions): boolean {
  return node.status.state === 'down' && node.id !== options.nodeId
}

/** Where the task answers for `targetPort` on its node; undefined when it does not. */
export function taskAddress(
  task: Task,
  targetPort: number,
): { readonly address: string; readonly port: number } | undefined {
  if (task.status.ports !== undefined) {
    const found = task.status.ports.find((mapping) => mapping.targetPort === targetPort)
    return found === undefined ? undefined : { address: LOOPBACK, port: found.hostPort }
  }
  if (task.address === undefined) return undefined
  return { address: task.address, port: targetPort }
}

/** Where processes without a network of their own answer. */
const LOOPBACK = '127.0.0.1'
