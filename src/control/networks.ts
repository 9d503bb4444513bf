/**
 * Networks as the leader allocates them: which drivers there are, the range of each network, which
 * networks a service's tasks are on, and addresses on networks that give tasks one of their own.
 *
 * Source: swarmkit `manager/allocator/network.go` and `controlapi/network.go` in their behaviour;
 * decision 0006 for what a network is here.
 */
import type { Network, NetworkAttachment, Task } from '../store/objects.ts'
import { isTerminal } from '../store/objects.ts'
import type { ServiceSpec } from '../store/spec.ts'
import type { StoreView } from '../store/view.ts'
import type { Plan } from './plan.ts'
import type { Cidr } from './subnets.ts'
import { addressText, cidrText, lowestFreeSubnet, nextAddress, parseCidr } from './subnets.ts'

/** What a network can be made of. */
export const NETWORK_DRIVERS = ['overlay', 'bridge', 'macvlan', 'ipvlan'] as const

/**
 * Networks that are always there and that nobody makes: the node's own stack, none at all, and the
 * way out that every task has. Their names are their ids.
 */
export const PREDEFINED_NETWORKS = ['host', 'none', 'bridge'] as const

/** Whether `name` is one of {@link PREDEFINED_NETWORKS}. */
export function isPredefined(name: string): boolean {
  return PREDEFINED_NETWORKS.some((one) => one === name)
}

/** Whether tasks so attached have the host's network stack, or none: no address of the swarm's. */
export function hasOwnStack(attachments: readonly NetworkAttachment[] | undefined): boolean {
  return (attachments ?? []).some(({ networkId }) => networkId === 'host' || networkId === 'none')
}

/** The driver's name; Docker's default of the swarm is `overlay`. */
export function driverOf(network: Pick<Network, 'spec'>): string {
  return network.spec.Driver === undefined || network.spec.Driver === ''
    ? 'overlay'
    : network.spec.Driver
}

/** Whether services have virtual addresses on the network. */
export function isOverlay(network: Pick<Network, 'spec'>): boolean {
  return driverOf(network) === 'overlay'
}

/** Whether tasks have an interface and an address of their own on the network. */
export function givesAddresses(network: Pick<Network, 'spec'>): boolean {
  return driverOf(network) === 'macvlan' || driverOf(network) === 'ipvlan'
}

/** A network by id, name, or the beginning of its id when no other begins so. */
export function findNetwork(
  store: Pick<StoreView, 'get' | 'list'>,
  target: string,
): Network | undefined {
  const exact = store.get('networks', target)
  if (exact !== undefined) return exact
  const networks = store.list('networks')
  const named = networks.find((network) => network.spec.Name === target)
  if (named !== undefined || target === '') return named
  const prefixed = networks.filter((network) => network.id.startsWith(target))
  return prefixed.length === 1 ? prefixed[0] : undefined
}

/** The networks that the spec's tasks are to be on; a text says what is wrong. */
export function attachmentsOf(
  store: Pick<StoreView, 'get' | 'list'>,
  spec: ServiceSpec,
): readonly NetworkAttachment[] | string {
  const asked = spec.TaskTemplate.Networks ?? spec.Networks ?? []
  const found: NetworkAttachment[] = []
  for (const { Target: target, Aliases: aliases } of asked) {
    const networkId = isPredefined(target) ? target : findNetwork(store, target)?.id
    if (networkId === undefined) return `network ${target} not found`
    if (found.some((one) => one.networkId === networkId)) continue
    found.push({ networkId, aliases: aliases ?? [] })
  }
  const alone = found.find(({ networkId }) => networkId === 'host' || networkId === 'none')
  if (alone !== undefined && found.length > 1) {
    return `network ${alone.networkId}: cannot be combined with other networks`
  }
  return found
}

/** Gives networks without a range the user's, or the lowest free one of the cluster's pools. */
export function allocateNetworks(plan: Plan): void {
  const cluster = plan.store.cluster()
  if (cluster === undefined) return
  for (const network of plan.list('networks')) {
    if (network.subnet !== undefined || !(isOverlay(network) || givesAddresses(network))) continue
    const asked = network.spec.IPAM?.Config?.[0]
    const subnet =
      asked?.Subnet === undefined
        ? lowestFreeSubnet(cluster.addressPools, cluster.subnetSize, takenRanges(plan))
        : parseCidr(asked.Subnet)
    if (subnet === undefined || !plan.room()) continue
    const gateway = asked?.Gateway || addressText(subnet.base + 1)
    plan.put('networks', { ...network, subnet: cidrText(subnet), gateway })
  }
}

/** Ranges of nodes and networks, lowest first. */
export function takenRanges(store: Pick<StoreView, 'list'>): Cidr[] {
  const texts = [
    ...store.list('nodes').map((node) => node.subnet),
    ...store.list('networks').map((network) => network.subnet),
  ]
  const ranges = texts.flatMap((text) => {
    const range = text === undefined ? undefined : parseCidr(text)
    return range === undefined ? [] : [range]
  })
  return ranges.toSorted((a, b) => a.base - b.base)
}

/**
 * `attachments` with an address wherever the network gives tasks one; a text says why not.
 */
export function withTaskAddresses(
  plan: Plan,
  attachments: readonly NetworkAttachment[],
): readonly NetworkAttachment[] | string {
  const complete: NetworkAttachment[] = []
  for (const attachment of attachments) {
    const network = plan.get('networks', attachment.networkId)
    if (network === undefined || !givesAddresses(network)) {
      complete.push(attachment)
      continue
    }
    const address = freeAddressOn(network, taskAddresses(plan, network))
    if (address === undefined) return `network ${network.spec.Name}: no free address`
    complete.push({ ...attachment, address })
  }
  return complete
}

/**
 * The lowest address of a network that nobody holds: in the range that the user named, else in the
 * whole subnet behind its first address. Gateway and reserved addresses are held.
 */
export function freeAddressOn(network: Network, taken: ReadonlySet<string>): string | undefined {
  const { subnet, gateway } = network
  if (subnet === undefined) return undefined
  const { IPRange: range = '', AuxiliaryAddresses: reserved = {} } =
    network.spec.IPAM?.Config?.[0] ?? {}
  const held = new Set([...taken, ...Object.values(reserved)])
  if (gateway !== undefined) held.add(gateway)
  if (range === '') return nextAddress(subnet, { held, recent: new Set(), last: undefined })
  const [whole, part] = [parseCidr(subnet), parseCidr(range)]
  if (whole === undefined || part === undefined) return undefined
  const edges = [whole.base, whole.base + whole.size - 1].map(addressText)
  for (let number = part.base; number < part.base + part.size; number += 1) {
    const address = addressText(number)
    if (!held.has(address) && !edges.includes(address)) return address
  }
  return undefined
}

function taskAddresses(plan: Plan, network: Network): Set<string> {
  const held = new Set<string>()
  for (const task of plan.list('tasks')) {
    const address = addressOn(task, network.id)
    if (address !== undefined && !isTerminal(task.status.state)) held.add(address)
  }
  return held
}

function addressOn(task: Task, networkId: string): string | undefined {
  return task.networks?.find((one) => one.networkId === networkId)?.address
}
