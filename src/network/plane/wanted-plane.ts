/**
 * What this node's kernel should do with packets, derived from the store. Pure.
 *
 * A task has one address, whatever networks it is on; a network says who may talk to whom. So the
 * plane knows the peers (one route each), the ranges of virtual addresses, this node's tasks with
 * their networks, and of those networks every member's address. Networks without a task here cost
 * nothing here. Of its own tasks a node believes itself.
 *
 * Source: decision 0006.
 */
import { isTerminal } from '../../store/objects.ts'
import type { Network, Node, Service, Task } from '../../store/objects.ts'
import type { StoreView } from '../../store/view.ts'
import { ipv6PrefixOf } from '../../store/ipv6.ts'
import { isTunnelEnd, tunnelRefusal } from '../underlay.ts'
import { baseOf, gatewayOf, macOfNode, macOfTask, markOfAddress, vxlanIdOf } from './names.ts'

/** Port of VXLAN (RFC 7348). */
export const VXLAN_PORT = 4789

/** Predefined networks that a task may be on: the way out that all have, and none at all. */
const WAY_OUT = 'bridge'
const NO_NETWORK = 'none'

/** What the plane is derived from. */
export interface PlaneScene {
  readonly store: StoreView
  readonly nodeId: string
  /** This node's tasks as it knows them itself; absent: as the store says. */
  readonly own?: readonly Task[]
  /** The node that packets to another must pass; undefined: none. Absent: all are next door. */
  readonly relayTo?: (nodeId: string) => string | undefined
}

/** A node that is reached over the overlay. */
export interface PlanePeer {
  readonly nodeId: string
  /** `10.32.2.0/24` */
  readonly subnet: string
  /** Its tunnel's inner address: the subnet's base. */
  readonly tunnelAddress: string
  /** Where packets to it are sent: its tunnel's inner address, or that of the node between. */
  readonly nextHop: string
  /** Its address on the underlay. */
  readonly underlayAddress: string
  /** All by which it speaks to others, of both families. */
  readonly addresses: readonly string[]
  readonly macAddress: string
  /** Mark of connections that came through it, and number of the table that leads back. */
  readonly mark: number
}

/** A task of this node. */
export interface PlaneTask {
  readonly id: string
  readonly address: string
  readonly macAddress: string
  /** Ids of the networks whose members it reaches, in order. */
  readonly networkIds: readonly string[]
  /** Whether it reaches addresses outside the cluster: not on internal networks alone. */
  readonly outside: boolean
}

/** Addresses; a `Set` is one. */
export interface Members extends Iterable<string> {
  has(address: string): boolean
}

/** A network with a task on this node. */
export interface PlaneNetwork {
  readonly id: string
  /** Addresses of tasks and services on it. */
  readonly members: Members
  /** Whether members have IPv6 addresses, too. */
  readonly hasIpv6: boolean
}

/** All that the plane is told. */
export interface WantedPlane {
  readonly nodeId: string
  readonly subnet: string
  readonly gateway: string
  /** The subnet's base, on the VXLAN device. */
  readonly tunnelAddress: string
  readonly vxlan: {
    readonly id: number
    readonly port: number
    readonly macAddress: string
    /** This node's address on the underlay; undefined: no other node can be reached by it. */
    readonly underlayAddress?: string
  }
  readonly peers: readonly PlanePeer[]
  /** Ranges of virtual addresses. */
  readonly virtualRanges: readonly string[]
  /** Ranges that are the cluster's own: nodes' subnets and virtual addresses. */
  readonly insideRanges: readonly string[]
  readonly tasks: readonly PlaneTask[]
  readonly networks: readonly PlaneNetwork[]
  /** What IPv4 addresses follow to be IPv6 ones; absent: no network wants IPv6. */
  readonly ipv6Prefix?: string
  /** Why some nodes are no peers, for people. */
  readonly notes: readonly string[]
}

/** The part of the plane that does not depend on tasks and services. */
export type PlaneBase = Omit<WantedPlane, 'tasks' | 'networks'>

/** The networks of the store by id. */
export type Networks = ReadonlyMap<string, Network>

/** The plane that a node should have; undefined while it has no subnet. */
export function wantedPlane(scene: PlaneScene): WantedPlane | undefined {
  const base = planeBase(scene)
  if (base === undefined) return undefined
  const networks = networksOf(scene.store)
  const tasks = placedTasks(scene)
  const own = ownPlaneTasks(
    tasks.filter((task) => task.nodeId === scene.nodeId),
    base,
    networks,
  )
  return { ...base, tasks: own, networks: planeNetworks(scene, { tasks, own, networks }) }
}

/** What nodes and networks say alone; undefined while the node has no subnet. */
export function planeBase(scene: PlaneScene): PlaneBase | undefined {
  const { store, nodeId } = scene
  const cluster = store.cluster()
  const node = store.get('nodes', nodeId)
  if (cluster === undefined || node?.subnet === undefined) return undefined
  const { subnet } = node
  const networks = networksOf(store)
  const virtualRanges = virtualRangesOf(networks)
  const { peers, notes } = peersOf(scene, node)
  const underlayAddress = isTunnelEnd(node.advertiseHost) ? node.advertiseHost : undefined
  return {
    nodeId,
    subnet,
    gateway: gatewayOf(subnet),
    tunnelAddress: baseOf(subnet),
    vxlan: {
      id: vxlanIdOf(cluster.id),
      port: VXLAN_PORT,
      macAddress: macOfNode(nodeId),
      ...(underlayAddress === undefined ? {} : { underlayAddress }),
    },
    peers,
    virtualRanges,
    insideRanges: [
      ...store.list('nodes').flatMap((one) => (one.subnet === undefined ? [] : [one.subnet])),
      ...virtualRanges,
    ],
    ...(wantsIpv6(networks) ? { ipv6Prefix: ipv6PrefixOf(cluster.id) } : {}),
    notes,
  }
}

/** The networks of the store by id. */
export function networksOf(store: StoreView): Networks {
  return new Map(store.list('networks').map((network) => [network.id, network]))
}

/** Tasks that hold an address of the overlay. */
function placedTasks({ store, nodeId, own }: PlaneScene): readonly Task[] {
  const known = store.list('tasks')
  const all =
    own === undefined ? known : [...known.filter((task) => task.nodeId !== nodeId), ...own]
  return all.filter(isPlaced)
}

/** Whether a task holds an address of the overlay. */
export function isPlaced(task: Task): boolean {
  return (
    task.address !== undefined &&
    !isTerminal(task.status.state) &&
    !(task.networks ?? []).some(({ networkId }) => networkId === NO_NETWORK)
  )
}

/** This node's tasks as the plane has them, in order of id. */
export function ownPlaneTasks(
  placed: readonly Task[],
  { subnet }: Pick<PlaneBase, 'subnet'>,
  networks: Networks,
): PlaneTask[] {
  return placed
    .map((task) => planeTask(task, subnet, networks))
    .toSorted((a, b) => (a.id < b.id ? -1 : 1))
}

/** A place of an address: the network's id, the address. */
export type Membership = readonly [networkId: string, address: string]

/** Where a task that is placed is a member, as `nodeId` sees it. */
export function taskMemberships(task: Task, nodeId: string, networks: Networks): Membership[] {
  const { address } = task
  if (address === undefined) return []
  return (task.networks ?? []).flatMap(({ networkId }): Membership[] => {
    const spansNodes = driverOf(networks.get(networkId)) === 'overlay'
    return spansNodes || task.nodeId === nodeId ? [[networkId, address]] : []
  })
}

/** Where a service is a member. */
export function serviceMemberships(service: Service): Membership[] {
  return (service.endpoint?.virtualAddresses ?? []).map(({ networkId, address }) => {
    return [networkId, address]
  })
}

function planeTask(task: Task, subnet: string, networks: Networks): PlaneTask {
  const ids = (task.networks ?? []).map((one) => one.networkId)
  const address = task.address ?? ''
  return {
    id: task.id,
    address,
    macAddress: macOfTask(`${address}/${subnet.split('/')[1] ?? '32'}`),
    networkIds: ids.filter((id) => isPolicy(networks.get(id))).toSorted(),
    outside:
      ids.length === 0 ||
      ids.some((id) => id === WAY_OUT || networks.get(id)?.spec.Internal !== true),
  }
}

function planeNetworks(
  { store, nodeId }: PlaneScene,
  about: {
    readonly tasks: readonly Task[]
    readonly own: readonly PlaneTask[]
    readonly networks: Networks
  },
): PlaneNetwork[] {
  const members = new Map<string, Set<string>>()
  for (const id of new Set(about.own.flatMap((task) => task.networkIds))) members.set(id, new Set())
  const memberships = [
    ...about.tasks.flatMap((task) => taskMemberships(task, nodeId, about.networks)),
    ...store.list('services').flatMap(serviceMemberships),
  ]
  for (const [networkId, address] of memberships) members.get(networkId)?.add(address)
  return [...members]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([id, addresses]) => ({
      id,
      members: addresses,
      hasIpv6: hasIpv6(about.networks.get(id)),
    }))
}

/** Whether members of a network have IPv6 addresses, too. */
export function hasIpv6(network: Network | undefined): boolean {
  return network?.spec.EnableIPv6 === true
}

function peersOf(
  { store, relayTo }: PlaneScene,
  self: Node,
): { readonly peers: PlanePeer[]; readonly notes: string[] } {
  const peers: PlanePeer[] = []
  const notes: string[] = []
  for (const node of store.list('nodes')) {
    if (node.id === self.id || node.subnet === undefined) continue
    const refusal = tunnelRefusal(node, self)
    if (refusal !== undefined) {
      notes.push(`node ${node.id}: not reached over the overlay: ${refusal}`)
      continue
    }
    const tunnelAddress = baseOf(node.subnet)
    const relay = store.get('nodes', relayTo?.(node.id) ?? node.id)
    const isUsable = relay?.subnet !== undefined && tunnelRefusal(relay, self) === undefined
    peers.push({
      nodeId: node.id,
      subnet: node.subnet,
      tunnelAddress,
      nextHop: isUsable ? baseOf(relay.subnet) : tunnelAddress,
      underlayAddress: node.advertiseHost,
      addresses: [...new Set([node.advertiseHost, ...(node.description.addresses ?? [])])],
      macAddress: macOfNode(node.id),
      mark: markOfAddress(tunnelAddress),
    })
  }
  return { peers, notes }
}

function virtualRangesOf(networks: Networks): string[] {
  return [...networks.values()].flatMap((network) =>
    driverOf(network) === 'overlay' && network.subnet !== undefined ? [network.subnet] : [],
  )
}

function wantsIpv6(networks: Networks): boolean {
  return [...networks.values()].some(
    (network) => driverOf(network) === 'overlay' && hasIpv6(network),
  )
}

/** Whether members of the network may talk to one another through the plane. */
function isPolicy(network: Network | undefined): boolean {
  const driver = driverOf(network)
  return driver === 'overlay' || driver === 'bridge'
}

/** Docker's default of the swarm is `overlay`. */
function driverOf(network: Network | undefined): string | undefined {
  if (network === undefined) return undefined
  const { Driver } = network.spec
  return Driver === undefined || Driver === '' ? 'overlay' : Driver
}
