/**
 * What users may do to networks, as pure functions from the store to the actions to propose.
 * Refusals carry Docker's texts. Source: swarmkit `manager/controlapi/network.go`, in its
 * behaviour.
 */
import { SwarmError } from '../base/errors.ts'
import type { Network } from '../store/objects.ts'
import type { IpamConfig, NetworkSpec } from '../store/spec.ts'
import type { Action } from '../store/transaction.ts'
import type { StoreView } from '../store/view.ts'
import { NETWORK_DRIVERS, driverOf, givesAddresses, isPredefined, takenRanges } from './networks.ts'
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
  assertMtu(spec)
  assertRange(store, spec)
  if (store.find('networks', 'name', spec.Name).length > 0) {
    throw new SwarmError('ALREADY_EXISTS', `network with name ${spec.Name} already exists`)
  }
  return [{ type: 'create', table: 'networks', object: { id, spec } }]
}

/** Takes a network away. @throws FAILED_PRECONDITION when a service or a task is on it */
export function removeNetwork(store: StoreView, network: Network): Action[] {
  const user = store
    .list('services')
    .find((service) => uses(service.endpoint?.networks, network.id))
  if (user !== undefined) {
    const who = `service ${user.spec.Name} (${user.id})`
    const message = `network ${network.spec.Name} is in use by ${who}`
    throw new SwarmError('FAILED_PRECONDITION', message)
  }
  const { version } = network.meta
  return [{ type: 'remove', table: 'networks', id: network.id, version }]
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
  const ipam = spec.IPAM?.Driver ?? ''
  if (ipam !== '' && ipam !== 'default') {
    const message = `network ${spec.Name}: address management driver "${ipam}" is not supported`
    throw new SwarmError('UNIMPLEMENTED', message)
  }
  if (!givesAddresses({ spec })) return
  if ((spec.Options?.['parent'] ?? '') === '') {
    const message = `network ${spec.Name}: ${driver} needs the option parent, a device of the nodes`
    throw new SwarmError('INVALID_ARGUMENT', message)
  }
  if (spec.IPAM?.Config?.[0]?.Subnet === undefined) {
    const message = `network ${spec.Name}: ${driver} needs a subnet, that of its parent's network`
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
  if (config?.Subnet === undefined || config.Subnet === '') return
  const range = parseCidr(config.Subnet)
  if (range === undefined || range.prefix < PREFIX_MIN || range.prefix > PREFIX_MAX) {
    const wanted = `an IPv4 range of /${PREFIX_MIN} to /${PREFIX_MAX} is needed`
    const message = `network ${spec.Name}: invalid subnet ${config.Subnet}: ${wanted}`
    throw new SwarmError('INVALID_ARGUMENT', message)
  }
  assertGateway(spec, config, range)
  assertFree(store, spec, range)
}

function assertGateway(spec: NetworkSpec, config: IpamConfig, range: Cidr): void {
  if (config.Gateway === undefined || config.Gateway === '') return
  const address = parseAddress(config.Gateway)
  if (address !== undefined && address >= range.base && address < range.base + range.size) return
  const message = `network ${spec.Name}: gateway ${config.Gateway} is not in ${cidrText(range)}`
  throw new SwarmError('INVALID_ARGUMENT', message)
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
