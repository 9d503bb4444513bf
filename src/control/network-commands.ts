/**
 * What users may do to networks, as pure functions from the store to the actions to propose.
 * Refusals carry Docker's texts. Source: swarmkit `manager/controlapi/network.go`, in its
 * behaviour.
 */
import { SwarmError } from '../base/errors.ts'
import { isTerminal } from '../store/objects.ts'
import type { Network } from '../store/objects.ts'
import type { IpamConfig, NetworkSpec } from '../store/spec.ts'
import type { Action } from '../store/transaction.ts'
import type { StoreView } from '../store/view.ts'
import { NETWORK_DRIVERS, attachmentsOf, driverOf, givesAddresses } from './networks.ts'
import { isPredefined, takenRanges } from './networks.ts'
import type { Cidr } from './subnets.ts'
import { cidrText, parseAddress, parseCidr } from './subnets.ts'

/** Docker's name of the network that published ports belong to. */
export const INGRESS_NETWORK = 'ingress'

/** Shortest and longest prefix of a network's range. */
const PREFIX_MIN = 8
const PREFIX_MAX = 29

/** Smallest MTU that IPv4 must carry, and the largest that a device has. */
const MTU_MIN = 576
const MTU_MAX = 65_535

/** Option that sets the MTU of tasks on the network. */
export const MTU_OPTION = 'com.docker.network.driver.mtu'

/** A new network. @throws ALREADY_EXISTS, INVALID_ARGUMENT, PERMISSION_DENIED, UNIMPLEMENTED */
export function createNetwork(
  store: StoreView,
  request: { readonly id: string; readonly spec: NetworkSpec },
): Action[] {
  const { id, spec } = request
  if (isPredefined(spec.Name) || spec.Name === INGRESS_NETWORK) {
    const message = `operation is not permitted on predefined ${spec.Name} network`
    throw new SwarmError('PERMISSION_DENIED', message)
  }
  assertDriver(spec)
  assertOptions(spec)
  assertMtu(spec)
  assertRange(store, spec)
  if (store.find('networks', 'name', spec.Name).length > 0) {
    throw new SwarmError('ALREADY_EXISTS', `network with name ${spec.Name} already exists`)
  }
  return [{ type: 'create', table: 'networks', object: { id, spec } }]
}

/** Takes a network away. @throws FAILED_PRECONDITION with the names of who uses it */
export function removeNetwork(store: StoreView, network: Network): Action[] {
  const users = usersOf(store, network.id)
  if (users.length > 0) {
    const more =
      users.length > USERS_NAMED_MAX ? `, and ${users.length - USERS_NAMED_MAX} more` : ''
    const who = `${users.slice(0, USERS_NAMED_MAX).join(', ')}${more}`
    const message = `network ${network.spec.Name} is in use by ${who}`
    throw new SwarmError('FAILED_PRECONDITION', message)
  }
  return [removalOf(network)]
}

/** Takes away those of `networks` that nobody uses. */
export function pruneNetworks(store: StoreView, networks: readonly Network[]): readonly Network[] {
  return networks.filter((network) => usersOf(store, network.id).length === 0)
}

/** The action that takes a network away that nobody uses. */
export function removalOf(network: Network): Action {
  return { type: 'remove', table: 'networks', id: network.id, version: network.meta.version }
}

/** Users that a refusal names. */
const USERS_NAMED_MAX = 8

/** Services on the network, also those to come; and tasks that are still there without one. */
function usersOf(store: StoreView, id: string): string[] {
  const services = store.list('services').filter(({ endpoint, spec }) => {
    const wanted = attachmentsOf(store, spec)
    return uses(endpoint?.networks, id) || (typeof wanted !== 'string' && uses(wanted, id))
  })
  const known = new Set(services.map((service) => service.id))
  const tasks = store
    .list('tasks')
    .filter((task) => !known.has(task.serviceId) && !isTerminal(task.status.state))
    .filter((task) => uses(task.networks, id))
  return [
    ...services.map((service) => `service ${service.spec.Name} (${service.id})`).toSorted(),
    ...tasks.map((task) => `task ${task.id} of ${task.serviceName}`),
  ]
}

function uses(networks: readonly { networkId: string }[] | undefined, id: string): boolean {
  return (networks ?? []).some(({ networkId }) => networkId === id)
}

function assertDriver(spec: NetworkSpec): void {
  const driver = driverOf({ spec })
  if (!NETWORK_DRIVERS.some((one) => one === driver)) {
    const known = NETWORK_DRIVERS.join(', ')
    const message = `network ${spec.Name}: unknown driver "${driver}", not one of ${known}`
    throw new SwarmError('INVALID_ARGUMENT', message)
  }
  assertManagement(spec)
  if (givesAddresses({ spec })) assertParent(spec)
}

function assertManagement(spec: NetworkSpec): void {
  const ipam = spec.IPAM?.Driver ?? ''
  if (ipam !== '' && ipam !== 'default') {
    const message = `network ${spec.Name}: address management driver "${ipam}" is not supported`
    throw new SwarmError('UNIMPLEMENTED', message)
  }
  if (Object.keys(spec.IPAM?.Options ?? {}).length > 0) {
    const message = `network ${spec.Name}: address management has no options`
    throw new SwarmError('UNIMPLEMENTED', message)
  }
}

/** What a macvlan or ipvlan needs. */
function assertParent(spec: NetworkSpec): void {
  const driver = driverOf({ spec })
  if (spec.Internal === true) {
    const message = `network ${spec.Name}: ${driver} is the parent's network, it cannot be internal`
    throw new SwarmError('INVALID_ARGUMENT', message)
  }
  if ((spec.Options?.['parent'] ?? '') === '') {
    const message = `network ${spec.Name}: ${driver} needs the option parent, a device of the nodes`
    throw new SwarmError('INVALID_ARGUMENT', message)
  }
  if (spec.IPAM?.Config?.[0]?.Subnet === undefined) {
    const message = `network ${spec.Name}: ${driver} needs a subnet, that of its parent's network`
    throw new SwarmError('INVALID_ARGUMENT', message)
  }
}

/** Options of each driver, and what they may be where that is known beforehand. */
const DRIVER_OPTIONS: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  overlay: { [MTU_OPTION]: [] },
  bridge: { [MTU_OPTION]: [] },
  macvlan: {
    [MTU_OPTION]: [],
    parent: [],
    macvlan_mode: ['bridge', 'private', 'vepa', 'passthru'],
  },
  ipvlan: { [MTU_OPTION]: [], parent: [], ipvlan_mode: ['l2', 'l3', 'l3s'] },
}

/** An option that nobody would obey is refused: `encrypted`, above all. */
function assertOptions(spec: NetworkSpec): void {
  const driver = driverOf({ spec })
  const known = DRIVER_OPTIONS[driver] ?? {}
  for (const [option, value] of Object.entries(spec.Options ?? {})) {
    const values = known[option]
    if (values === undefined) {
      const names = Object.keys(known).join(', ')
      const message = `network ${spec.Name}: ${driver} has no option "${option}", only ${names}`
      throw new SwarmError('UNIMPLEMENTED', message)
    }
    if (values.length === 0 || values.includes(value)) continue
    const message = `network ${spec.Name}: ${option} "${value}" is none of ${values.join(', ')}`
    throw new SwarmError('INVALID_ARGUMENT', message)
  }
}

function assertMtu(spec: NetworkSpec): void {
  const text = spec.Options?.[MTU_OPTION]
  if (text === undefined) return
  const mtu = Number(text)
  if (Number.isInteger(mtu) && mtu >= MTU_MIN && mtu <= MTU_MAX) return
  const message = `network ${spec.Name}: MTU "${text}" is not between ${MTU_MIN} and ${MTU_MAX}`
  throw new SwarmError('INVALID_ARGUMENT', message)
}

function assertRange(store: StoreView, spec: NetworkSpec): void {
  const configs = spec.IPAM?.Config ?? []
  const ipv6 = configs.find(({ Subnet: subnet }) => subnet?.includes(':'))
  if (ipv6 !== undefined) {
    const what = 'IPv6 addresses follow from IPv4 ones; --ipv6 alone gives them'
    const message = `network ${spec.Name}: invalid subnet ${ipv6.Subnet}: ${what}`
    throw new SwarmError('INVALID_ARGUMENT', message)
  }
  if (configs.length > 1) {
    const message = `network ${spec.Name}: more than one subnet is not supported`
    throw new SwarmError('UNIMPLEMENTED', message)
  }
  const config = configs[0]
  if (config === undefined) return
  const { Subnet: subnet = '' } = config
  if (subnet === '') {
    assertNothingInside(spec, config)
    return
  }
  if (driverOf({ spec }) === 'bridge') {
    const reason = 'the tasks on a bridge have the addresses of their node'
    const message = `network ${spec.Name}: a subnet is not supported: ${reason}`
    throw new SwarmError('UNIMPLEMENTED', message)
  }
  const range = parseCidr(subnet)
  if (range === undefined || range.prefix < PREFIX_MIN || range.prefix > PREFIX_MAX) {
    const wanted = `an IPv4 range of /${PREFIX_MIN} to /${PREFIX_MAX} is needed`
    const message = `network ${spec.Name}: invalid subnet ${subnet}: ${wanted}`
    throw new SwarmError('INVALID_ARGUMENT', message)
  }
  assertInside(spec, config, range)
  assertFree(store, spec, range)
}

function assertNothingInside(spec: NetworkSpec, config: IpamConfig): void {
  const { IPRange: part = '', Gateway: gateway = '', AuxiliaryAddresses: reserved = {} } = config
  if (part === '' && gateway === '' && Object.keys(reserved).length === 0) return
  const message = `network ${spec.Name}: gateway, ip-range and aux-address need a subnet`
  throw new SwarmError('INVALID_ARGUMENT', message)
}

function assertInside(spec: NetworkSpec, config: IpamConfig, range: Cidr): void {
  const isIn = (address: number | undefined): boolean =>
    address !== undefined && address >= range.base && address < range.base + range.size
  const refuse = (what: string): never => {
    const message = `network ${spec.Name}: ${what} is not in ${cidrText(range)}`
    throw new SwarmError('INVALID_ARGUMENT', message)
  }
  const { Gateway: gateway = '', IPRange: part = '', AuxiliaryAddresses: reserved = {} } = config
  if (gateway !== '' && !isIn(parseAddress(gateway))) refuse(`gateway ${gateway}`)
  for (const [name, address] of Object.entries(reserved)) {
    if (!isIn(parseAddress(address))) refuse(`aux-address ${name}=${address}`)
  }
  if (part === '') return
  const inner = parseCidr(part)
  if (!isIn(inner?.base) || (inner?.size ?? 0) > range.size) refuse(`ip-range ${part}`)
}

/** A macvlan is part of a network outside, which nodes may share; others must not meet. */
function assertFree(store: StoreView, spec: NetworkSpec, range: Cidr): void {
  const { addressPools = [] } = store.cluster() ?? {}
  const pools = addressPools.flatMap((text) => parseCidr(text) ?? [])
  const taken = [...takenRanges(store), ...(givesAddresses({ spec }) ? [] : pools)]
  const rival = taken.find(
    (other) => range.base < other.base + other.size && other.base < range.base + range.size,
  )
  if (rival === undefined) return
  const clash = `${cidrText(range)} overlaps with ${cidrText(rival)}, which is in use`
  const message = `network ${spec.Name}: subnet ${clash}`
  throw new SwarmError('INVALID_ARGUMENT', message)
}
