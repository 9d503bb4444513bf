/**
 * What this node's load balancer should do, derived from the store: one virtual server for each
 * published port and, where the driver can, one for each virtual address of a service; with IPv6
 * two (`ipv6-servers.ts`). Pure.
 *
 * Invariants: a replica is a backend while it is observed running on a node that is not down; it
 * gets new connections only while it is also wanted running, so a replica that is being stopped
 * drains through its grace period; so does one that is unhealthy. RUNNING means that it listens
 * and is healthy as far as can be known (`agent/health/readiness.ts`). Of its own replicas the node
 * believes itself: they answer through it also when no leader has heard of their restart. A replica
 * behind a link that is dead gets no new connection from that moment on, unless there is no other:
 * then a daemon that restarts for an upgrade, whose containers go on, costs nothing. Otherwise it
 * is `lost`, whether it drained before or not: who waits for its first answer is sent to another.
 * Flows of datagrams have no end to wait for: they leave a replica that drains at once, when there
 * is another.
 */
import type { AllocatedPort, Node, Service, Task } from '../store/objects.ts'
import {
  AFFINITY_LABEL,
  PROXY_PROTOCOL_LABEL,
  SCHEDULERS,
  SCHEDULER_LABEL,
} from '../store/service-labels.ts'
import type { StoreView } from '../store/view.ts'
import type { Backend, Scheduler, VirtualServer } from './ports.ts'
import { publishedInIpv6, virtualInIpv6 } from './ipv6-servers.ts'
import type { TwinScene } from './ipv6-servers.ts'
import { isOnOneHost, tunnelRefusal } from './underlay.ts'
import { ANY_ADDRESS } from './ports.ts'

/** Weight of a replica on this node or on one with a link of its own; replicas are equal. */
export const WEIGHT_DIRECT = 4

/** Weight of a replica that is reached through another node: each byte costs two links. */
export const WEIGHT_RELAYED = 1

/** Whose balancer this is and where it listens. */
export interface NetworkOptions {
  readonly nodeId: string
  /** `0.0.0.0` = all of this node's addresses. */
  readonly listenAddress: string
  /** Whether published ports answer on all of this node's IPv6 addresses, too. */
  readonly hasIpv6?: boolean
}

/** How another node can be reached now. */
export type LinkState = 'direct' | 'relayed' | 'none'

/** What the virtual servers are derived from. */
export interface NetworkScene {
  readonly store: StoreView
  /** This node's tasks as it knows them itself; absent: as the store says. */
  readonly own?: readonly Task[]
  /** Absent: every node has a link. */
  readonly linkTo?: (nodeId: string) => LinkState
  /** Whether tasks of other nodes that have a plane are reached by the kernel's routes. */
  readonly routed?: boolean
  /** Whether the driver answers on virtual addresses. */
  readonly hasVirtualAddresses?: boolean
}

/** The virtual servers that the node should have, in order of service id and port. */
export function wantedServers(scene: NetworkScene, options: NetworkOptions): VirtualServer[] {
  return scene.store.list('services').flatMap((service) => serversOf(scene, service, options))
}

/** Those of one service. */
export function serversOf(
  scene: NetworkScene,
  service: Service,
  options: NetworkOptions,
): VirtualServer[] {
  const tasks = tasksOf(scene, service, options)
  const published = publishedServers({ scene, options, service, tasks })
  const virtual = scene.hasVirtualAddresses
    ? virtualServers({ scene, options, service, tasks })
    : []
  return [...published, ...virtual]
}

interface ServiceScene {
  readonly scene: NetworkScene
  readonly options: NetworkOptions
  readonly service: Service
  readonly tasks: readonly Task[]
}

function publishedServers(about: ServiceScene): VirtualServer[] {
  const { service, options } = about
  const ports = (service.endpoint?.ports ?? []).filter((port) => port.publishedPort > 0)
  return ports.flatMap((port) => {
    const { protocol, publishedPort } = port
    const local = port.publishMode === 'host'
    const backends = backendsOf(about, {
      protocol,
      where: (task) => taskAddress(task, port.targetPort),
      serves: (task) => !local || task.nodeId === options.nodeId,
    })
    // In host mode the port is the node's only where a replica is.
    if (local && backends.length === 0) return []
    const id = `${service.id}/${protocol}/${publishedPort}`
    const address = options.listenAddress
    const asked = protocol === 'tcp' ? proxyProtocolOf(service) : {}
    const balanced = { ...schedulerOf(service), ...asked, backends }
    const server = { id, protocol, address, port: publishedPort, ...balanced }
    const isEverywhere = options.hasIpv6 === true && address === ANY_ADDRESS.ipv4
    return [server, ...twin(isEverywhere ? publishedInIpv6(twinScene(about), server) : undefined)]
  })
}

function virtualServers(about: ServiceScene): VirtualServer[] {
  const { service } = about
  return (service.endpoint?.virtualAddresses ?? []).flatMap(({ networkId, address }) => {
    const backends = backendsOf(about, {
      protocol: 'any',
      where: (task) =>
        task.address === undefined ? undefined : { address: task.address, port: 0 },
      serves: (task) => (task.networks ?? []).some((network) => network.networkId === networkId),
    })
    const id = `${service.id}/${networkId}`
    const balanced = { ...schedulerOf(service), backends }
    const server = { id, protocol: 'any', address, port: 0, ...balanced } as const
    return [server, ...twin(virtualInIpv6(twinScene(about), server, networkId))]
  })
}

function twinScene({ scene, tasks }: ServiceScene): TwinScene {
  return { store: scene.store, tasks }
}

function twin(server: VirtualServer | undefined): readonly VirtualServer[] {
  return server === undefined ? [] : [server]
}

/** The scheduler that the service's labels ask for; one that does not exist is none. */
function schedulerOf(service: Service): { readonly scheduler?: Scheduler } {
  const labels = service.spec.Labels ?? {}
  if (labels[AFFINITY_LABEL] === 'client-ip') return { scheduler: 'mh' }
  const scheduler = SCHEDULERS.find((name) => name === labels[SCHEDULER_LABEL])
  return scheduler === undefined ? {} : { scheduler }
}

function proxyProtocolOf(service: Service): { readonly proxyProtocol?: 'v2' } {
  return service.spec.Labels?.[PROXY_PROTOCOL_LABEL] === 'v2' ? { proxyProtocol: 'v2' } : {}
}

function backendsOf(
  about: ServiceScene,
  query: {
    readonly protocol: VirtualServer['protocol']
    readonly where: (task: Task) => Pick<Backend, 'address' | 'port'> | undefined
    readonly serves: (task: Task) => boolean
  },
): Backend[] {
  const { scene, options, tasks } = about
  const found: { readonly backend: Backend; readonly link: LinkState }[] = []
  for (const task of tasks) {
    if (task.status.state !== 'running' || !query.serves(task)) continue
    const node = scene.store.get('nodes', task.nodeId)
    if (node === undefined || isDown(node, options)) continue
    const where = query.where(task)
    if (where === undefined) continue
    const local = task.nodeId === options.nodeId
    const link = local ? 'direct' : (scene.linkTo?.(task.nodeId) ?? 'direct')
    const routed = local || isRouted(scene, node, options)
    const isOffered = task.desiredState === 'running' && task.status.health !== 'unhealthy'
    const weight = isOffered ? weightOf(link) : 0
    const backend = { taskId: task.id, nodeId: task.nodeId, local, ...where, routed, weight }
    found.push({ backend, link })
  }
  const living = withoutDeadLinks(found)
  const isMoving = query.protocol === 'udp' && living.some(({ weight }) => weight > 0)
  return isMoving ? living.filter(({ weight }) => weight > 0) : living
}

/** Whether the kernel's routes lead from here to tasks of the node. */
function isRouted({ routed, store }: NetworkScene, node: Node, options: NetworkOptions): boolean {
  if (routed !== true || !hasPlane(node)) return false
  const self = store.get('nodes', options.nodeId)
  if (self === undefined || isOnOneHost(node, self)) return true
  return tunnelRefusal(node, self) === undefined
}

/** Whether the kernel's routes end at the node: one that balances in userspace has no tunnel. */
export function hasPlane({ description }: Node): boolean {
  return description.balancer.name !== 'userspace'
}

/** Dead links serve only when nothing else does. */
function withoutDeadLinks(
  found: readonly { readonly backend: Backend; readonly link: LinkState }[],
): Backend[] {
  const others = found.some(({ backend, link }) => link !== 'none' && backend.weight > 0)
  if (!others) return found.map(({ backend }) => backend)
  return found.map(({ backend, link }) =>
    link === 'none' ? { ...backend, weight: 0, lost: true } : backend,
  )
}

function weightOf(link: LinkState): number {
  return link === 'relayed' ? WEIGHT_RELAYED : WEIGHT_DIRECT
}

/** The tasks of a service: the others' as the store says, this node's as it sees them itself. */
function tasksOf(scene: NetworkScene, service: Service, options: NetworkOptions): Task[] {
  const known = scene.store.find('tasks', 'serviceId', service.id)
  if (scene.own === undefined) return known
  const wishes = new Map(known.map((task) => [task.id, task.desiredState]))
  const mine = scene.own
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
  targetPort: AllocatedPort['targetPort'],
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
