/**
 * What names mean, read from the local replica: the names that a container may ask, and the
 * addresses behind them. Derived again only where something changed, service by service
 * (`service-names.ts`), at the first question after it.
 *
 * Each name is known also with `.<network>` behind it. A container is told only the names of
 * networks that it is on, so one name may mean different things to two callers. Since the replica
 * answers, names are right while the node is cut off from all others.
 *
 * Invariant: after `refresh`, but for what was noted since, names are what the store and the own
 * tasks say. A long refresh pauses between services; whoever asks meanwhile waits for its end.
 */
import type { Network, Task } from '../../store/objects.ts'
import type { Change, Commit, StoreView } from '../../store/view.ts'
import { isIpv6Network } from '../../store/ipv6.ts'
import type { TimeSlices } from '../time-slices.ts'
import { Claims } from './claims.ts'
import { joined, keyOf, namesOf } from './service-names.ts'
import type { NameEntry, ServiceScene } from './service-names.ts'

/** Where names come from. */
export interface NamesSources {
  readonly store: StoreView
  readonly slices: TimeSlices
  /** This node's tasks as it knows them itself; absent: as the store says. */
  readonly ownTasks?: () => readonly Task[]
}

/** Whose names, and what the node can do with them. */
export type NamesOptions = Pick<ServiceScene, 'nodeId' | 'hasVirtualAddresses' | 'routed'>

/** Addresses behind a name. */
export interface NamedAddresses extends NameEntry {
  /** Whether each has its IPv6 address, too: on a network with IPv6. */
  readonly hasIpv6: boolean
}

/** Who asks. */
export interface Caller {
  readonly taskId: string
  /** Networks in the order of the service's spec. */
  readonly networkIds: readonly string[]
  /** Whether names outside the swarm are its business: not on internal networks alone. */
  readonly outside: boolean
  /** Servers that know them, in place of the node's. */
  readonly servers?: readonly string[]
}

/** The names of this moment. */
export class Names {
  readonly #sources: NamesSources
  readonly #options: NamesOptions
  readonly #named = new Claims<NameEntry>()
  readonly #reverse = new Claims<string>()
  #networks: ReadonlyMap<string, Network> = new Map()
  /** Address of a task of this node → who it is. */
  #callers: ReadonlyMap<string, Caller> = new Map()
  /** Own tasks by service, as seen last. */
  #own: ReadonlyMap<string, readonly Task[]> = new Map()
  /** Services to derive again. */
  readonly #due = new Set<string>()
  #isAllDue = true
  #areOwnDue = true
  #running: Promise<void> | undefined

  constructor(sources: NamesSources, options: NamesOptions) {
    this.#sources = sources
    this.#options = options
  }

  noteCommit(commit: Commit): void {
    if (commit.type === 'restored') this.#isAllDue = true
    else for (const change of commit.changes) this.#noteChange(change)
  }

  noteOwnTasks(): void {
    this.#areOwnDue = true
  }

  /** Derives what is due. At once when nothing is. */
  async refresh(): Promise<void> {
    while (this.#isAllDue || this.#areOwnDue || this.#due.size > 0 || this.#running !== undefined) {
      const running = (this.#running ??= this.#refresh())
      await running
      if (this.#running === running) this.#running = undefined
    }
  }

  /** The task of this node that has the address. */
  callerAt(address: string): Caller | undefined {
    return this.#callers.get(address)
  }

  /** What `name` means to the caller; undefined: nothing that the swarm knows. */
  lookup(caller: Caller, name: string): NamedAddresses | undefined {
    for (const id of caller.networkIds) {
      const found = this.#on(id, name)
      if (found !== undefined) return found
    }
    return this.#qualified(caller, name.toLowerCase())
  }

  /** The name behind an address that the caller may know. */
  reverse(caller: Caller, address: string): string | undefined {
    for (const id of caller.networkIds) {
      const [name] = this.#reverse.of(keyOf(id, address))
      if (name !== undefined) return `${name}.${this.#networks.get(id)?.spec.Name ?? id}`
    }
    return undefined
  }

  /** Whether the name ends in the name of a network of the caller's. */
  endsInNetwork(caller: Caller, name: string): boolean {
    const last = name.slice(name.lastIndexOf('.') + 1).toLowerCase()
    return caller.networkIds.some((id) => this.#networks.get(id)?.spec.Name.toLowerCase() === last)
  }

  #on(networkId: string, name: string): NamedAddresses | undefined {
    const found = joined(this.#named.of(keyOf(networkId, name)))
    if (found === undefined) return undefined
    return { ...found, hasIpv6: isIpv6Network(this.#networks.get(networkId)) }
  }

  /** `web.front` on the network `front`. */
  #qualified(caller: Caller, name: string): NamedAddresses | undefined {
    for (const id of caller.networkIds) {
      const suffix = `.${this.#networks.get(id)?.spec.Name.toLowerCase() ?? ''}`
      if (suffix === '.' || !name.endsWith(suffix)) continue
      const found = this.#on(id, name.slice(0, -suffix.length))
      if (found !== undefined) return found
    }
    return undefined
  }

  #noteChange(change: Change): void {
    const { nodeId } = this.#options
    switch (change.table) {
      case 'services':
        this.#due.add(change.id)
        return
      case 'tasks':
        for (const task of [change.before, change.after]) {
          if (task === undefined) continue
          this.#due.add(task.serviceId)
          this.#areOwnDue ||= task.nodeId === nodeId
        }
        return
      case 'nodes':
        if (change.before?.status.state !== change.after?.status.state) this.#noteTasksOn(change.id)
        return
      case 'networks':
        // They come and go rarely, and what is fixed of them decides much.
        this.#isAllDue = true
        return
      case 'cluster':
        return
      default:
        change satisfies never
    }
  }

  #noteTasksOn(nodeId: string): void {
    for (const task of this.#sources.store.find('tasks', 'nodeId', nodeId)) {
      this.#due.add(task.serviceId)
    }
  }

  async #refresh(): Promise<void> {
    const { store, slices } = this.#sources
    if (this.#isAllDue) {
      this.#isAllDue = false
      this.#areOwnDue = true
      this.#networks = new Map(store.list('networks').map((network) => [network.id, network]))
      for (const { id } of store.list('services')) this.#due.add(id)
      for (const owner of this.#named.owners()) this.#due.add(owner)
    }
    this.#refreshOwn()
    // What is noted during a pause is taken along.
    for (const id of this.#due) {
      this.#due.delete(id)
      this.#derive(id)
      await slices.maybeYield()
    }
  }

  #refreshOwn(): void {
    if (!this.#areOwnDue) return
    this.#areOwnDue = false
    const { store, ownTasks } = this.#sources
    const tasks = ownTasks?.() ?? store.find('tasks', 'nodeId', this.#options.nodeId)
    this.#callers = new Map(
      tasks.filter(mayAsk).flatMap((task) => {
        return task.address === undefined ? [] : [[task.address, this.#callerOf(task)] as const]
      }),
    )
    if (ownTasks === undefined) return
    const own = Map.groupBy(tasks, ({ serviceId }) => serviceId)
    for (const id of new Set([...own.keys(), ...this.#own.keys()])) {
      if (!areSame(own.get(id) ?? [], this.#own.get(id) ?? [])) this.#due.add(id)
    }
    this.#own = own
  }

  #callerOf(task: Task): Caller {
    const networkIds = (task.networks ?? []).map((one) => one.networkId)
    const isInternal = (id: string): boolean => this.#networks.get(id)?.spec.Internal === true
    const outside = networkIds.length === 0 || networkIds.some((id) => !isInternal(id))
    const { Nameservers: servers = [] } = task.spec.ContainerSpec.DNSConfig ?? {}
    return { taskId: task.id, networkIds, outside, ...(servers.length === 0 ? {} : { servers }) }
  }

  #derive(serviceId: string): void {
    const { store, ownTasks } = this.#sources
    const service = store.get('services', serviceId)
    const own = ownTasks === undefined ? {} : { own: this.#own.get(serviceId) ?? [] }
    const scene = { ...this.#options, store, ...own }
    const names = service === undefined ? undefined : namesOf(scene, service)
    this.#named.replace(serviceId, names?.named ?? new Map())
    this.#reverse.replace(serviceId, names?.reverse ?? new Map())
  }
}

/** Tasks that hold an address may ask from the moment they start. */
function mayAsk({ status }: Task): boolean {
  return status.state === 'starting' || status.state === 'running'
}

function areSame(a: readonly Task[], b: readonly Task[]): boolean {
  return a.length === b.length && a.every((task, index) => task === b[index])
}
