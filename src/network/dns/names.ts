/**
 * What names mean, read from the local replica: the names that a container may ask, and the
 * addresses behind them. Made anew when something changed, at the first question after it.
 *
 * A service is known on each network that its tasks are on by its name and its aliases there (its
 * virtual address, or its tasks' addresses), by `tasks.<service>` (always its tasks'), each task by
 * its Docker name and its host name; each of these also with `.<network>` behind it. A container is
 * told only the names of networks that it is on, so one name may mean different things to two
 * callers. Since the replica answers, names are right while the node is cut off from all others.
 * Source: Docker's documented service discovery; libnetwork's resolver in its behaviour.
 */
import type { Network, Service, Task } from '../../store/objects.ts'
import type { StoreView } from '../../store/view.ts'
import { isIpv6Network } from '../ipv6-servers.ts'

/** Digits of a task id that make the default host name; as the agent gives it. */
const HOSTNAME_DIGITS = 12

/** What names are made from. */
export interface NamesScene {
  readonly store: StoreView
  readonly nodeId: string
  /** This node's tasks as it knows them itself; absent: as the store says. */
  readonly own?: readonly Task[]
  /** Whether this node answers on virtual addresses; else services mean their tasks. */
  readonly hasVirtualAddresses: boolean
  /** Whether this node's containers reach tasks of other nodes; else only its own are named. */
  readonly routed: boolean
}

/** Addresses behind a name. */
export interface NamedAddresses {
  /** IPv4; in no order that means something. */
  readonly addresses: readonly string[]
  /** `service`: stable while the service lives; `task`: as the tasks come and go. */
  readonly kind: 'service' | 'task'
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
}

type Zone = Map<string, ZoneEntry>

interface ZoneEntry {
  readonly addresses: string[]
  readonly kind: NamedAddresses['kind']
}

/** The names of one moment. */
export class Names {
  readonly #networks: ReadonlyMap<string, Network>
  /** Network id → name → addresses. */
  readonly #zones = new Map<string, Zone>()
  /** Network id → address → name. */
  readonly #reverse = new Map<string, Map<string, string>>()
  /** Address of a task of this node → who it is. */
  readonly #callers = new Map<string, Caller>()

  constructor(scene: NamesScene) {
    this.#networks = new Map(scene.store.list('networks').map((network) => [network.id, network]))
    for (const service of scene.store.list('services')) this.#addService(scene, service)
    for (const task of ownTasks(scene)) this.#addCaller(task)
  }

  /** The task of this node that has the address. */
  callerAt(address: string): Caller | undefined {
    return this.#callers.get(address)
  }

  /** What `name` means to the caller; undefined: nothing that the swarm knows. */
  lookup(caller: Caller, name: string): NamedAddresses | undefined {
    const wanted = name.toLowerCase()
    for (const id of caller.networkIds) {
      const found = this.#zones.get(id)?.get(wanted)
      if (found !== undefined) return this.#told(id, found)
    }
    return this.#qualified(caller, wanted)
  }

  /** The name behind an address that the caller may know. */
  reverse(caller: Caller, address: string): string | undefined {
    for (const id of caller.networkIds) {
      const name = this.#reverse.get(id)?.get(address)
      if (name !== undefined) return `${name}.${this.#networks.get(id)?.spec.Name ?? id}`
    }
    return undefined
  }

  /** Whether the name ends in the name of a network of the caller's. */
  endsInNetwork(caller: Caller, name: string): boolean {
    const last = name.slice(name.lastIndexOf('.') + 1).toLowerCase()
    return caller.networkIds.some((id) => this.#networks.get(id)?.spec.Name.toLowerCase() === last)
  }

  /** `web.front` on the network `front`. */
  #qualified(caller: Caller, name: string): NamedAddresses | undefined {
    for (const id of caller.networkIds) {
      const suffix = `.${this.#networks.get(id)?.spec.Name.toLowerCase() ?? ''}`
      if (suffix === '.' || !name.endsWith(suffix)) continue
      const found = this.#zones.get(id)?.get(name.slice(0, -suffix.length))
      if (found !== undefined) return this.#told(id, found)
    }
    return undefined
  }

  #told(networkId: string, entry: ZoneEntry): NamedAddresses {
    return { ...entry, hasIpv6: isIpv6Network(this.#networks.get(networkId)) }
  }

  #addService(scene: NamesScene, service: Service): void {
    const running = runningTasks(scene, service)
    for (const { networkId, aliases } of service.endpoint?.networks ?? []) {
      const spansNodes = this.#networks.get(networkId)?.spec.Driver !== 'bridge'
      const here = running.filter(
        (task) => isOn(task, networkId) && (spansNodes || task.nodeId === scene.nodeId),
      )
      const addresses = here.flatMap((task) => addressOn(task, networkId) ?? [])
      const virtual = scene.hasVirtualAddresses
        ? service.endpoint?.virtualAddresses?.find((one) => one.networkId === networkId)?.address
        : undefined
      const { Name: name } = service.spec
      for (const known of [name, ...aliases]) {
        if (virtual === undefined) this.#add(networkId, known, { addresses, kind: 'task' })
        else this.#add(networkId, known, { addresses: [virtual], kind: 'service' })
      }
      if (virtual !== undefined) this.#name(networkId, virtual, name)
      this.#add(networkId, `tasks.${name}`, { addresses, kind: 'task' })
      for (const task of here) this.#addTask(networkId, task)
    }
  }

  #addTask(networkId: string, task: Task): void {
    const address = addressOn(task, networkId)
    if (address === undefined) return
    const place = task.slot > 0 ? String(task.slot) : task.nodeId
    const full = `${task.serviceName}.${place}.${task.id}`
    const entry = { addresses: [address], kind: 'task' } as const
    const hostname = task.spec.ContainerSpec.Hostname ?? ''
    this.#add(networkId, full, entry)
    this.#add(networkId, task.id.slice(0, HOSTNAME_DIGITS), entry)
    if (hostname !== '' && !hostname.includes('{{')) this.#add(networkId, hostname, entry)
    this.#name(networkId, address, full)
  }

  /** What several services claim, an alias say, means all of them. */
  #add(networkId: string, name: string, entry: Omit<NamedAddresses, 'hasIpv6'>): void {
    const zone: Zone = this.#zones.get(networkId) ?? new Map()
    this.#zones.set(networkId, zone)
    const key = name.toLowerCase()
    const known = zone.get(key)
    if (known === undefined) zone.set(key, { ...entry, addresses: [...entry.addresses] })
    else known.addresses.push(...entry.addresses.filter((one) => !known.addresses.includes(one)))
  }

  #name(networkId: string, address: string, name: string): void {
    const names = this.#reverse.get(networkId) ?? new Map<string, string>()
    this.#reverse.set(networkId, names)
    if (!names.has(address)) names.set(address, name)
  }

  #addCaller(task: Task): void {
    if (task.address === undefined) return
    const networkIds = (task.networks ?? []).map((one) => one.networkId)
    const outside = networkIds.length === 0 || networkIds.some((id) => !this.#isInternal(id))
    this.#callers.set(task.address, { taskId: task.id, networkIds, outside })
  }

  #isInternal(networkId: string): boolean {
    return this.#networks.get(networkId)?.spec.Internal === true
  }
}

/** This node's tasks that hold an address: they may ask from the moment they start. */
function ownTasks(scene: NamesScene): readonly Task[] {
  const { store, nodeId, own } = scene
  return (own ?? store.find('tasks', 'nodeId', nodeId)).filter(
    ({ status }) => status.state === 'starting' || status.state === 'running',
  )
}

/** The tasks of a service that others should find. */
function runningTasks(scene: NamesScene, service: Service): Task[] {
  const { store, nodeId, own, routed } = scene
  const known = store.find('tasks', 'serviceId', service.id)
  const mine = own?.filter((task) => task.serviceId === service.id)
  const elsewhere = known.filter((task) => task.nodeId !== nodeId && routed)
  const here = mine ?? known.filter((task) => task.nodeId === nodeId)
  return [...elsewhere, ...here].filter((task) => {
    const { state } = store.get('nodes', task.nodeId)?.status ?? { state: 'down' }
    const lost = state === 'down' && task.nodeId !== nodeId
    const wish = store.get('tasks', task.id)?.desiredState ?? task.desiredState
    const isWell = task.status.state === 'running' && task.status.health !== 'unhealthy'
    return isWell && wish === 'running' && !lost
  })
}

function isOn(task: Task, networkId: string): boolean {
  return task.networks?.some((one) => one.networkId === networkId) === true
}

function addressOn(task: Task, networkId: string): string | undefined {
  const own = task.networks?.find((one) => one.networkId === networkId)?.address
  return own ?? task.address
}
