/**
 * Which range a network may have, as far as can be known before any node has it: what a node's own
 * networks are, each node says itself when it gets there (`skein info`).
 */
import { SwarmError } from '../base/errors.ts'
import type { IpamConfig, NetworkSpec } from '../store/spec.ts'
import type { StoreView } from '../store/view.ts'
import { driverOf, givesAddresses, takenRanges } from './networks.ts'
import type { Cidr } from './subnets.ts'
import { cidrText, parseAddress, parseCidr } from './subnets.ts'

/** Shortest and longest prefix of a network's range. */
const PREFIX_MIN = 8
const PREFIX_MAX = 29

/** Ranges whose addresses mean something else to every host (RFC 6890), and what. */
const SPECIAL_RANGES: Readonly<Record<string, string>> = {
  '0.0.0.0/8': 'this network',
  '127.0.0.0/8': 'loopback',
  '169.254.0.0/16': 'link-local addresses',
  '224.0.0.0/4': 'multicast',
  '240.0.0.0/4': 'reserved addresses',
}

/** Refuses a range that cannot be one. @throws INVALID_ARGUMENT, UNIMPLEMENTED */
export function assertRange(store: StoreView, spec: NetworkSpec): void {
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
  assertOrdinary(spec, range)
  assertFree(store, spec, range)
  if (!givesAddresses({ spec })) assertNoNode(store, spec, range)
}

/**
 * Refuses pools from which no subnet of `subnetSize` bits could be cut: nodes would have none, and
 * their tasks no network. @throws INVALID_ARGUMENT
 */
export function assertPools(pools: readonly string[], subnetSize: number): void {
  for (const [index, pool] of pools.entries()) {
    const fault = poolFault(pool, { subnetSize, others: pools.slice(0, index) })
    if (fault === undefined) continue
    throw new SwarmError('INVALID_ARGUMENT', `address pool ${pool}: ${fault}`)
  }
}

function poolFault(
  pool: string,
  { subnetSize, others }: { readonly subnetSize: number; readonly others: readonly string[] },
): string | undefined {
  const range = parseCidr(pool)
  if (range === undefined || range.prefix < PREFIX_MIN) {
    return `an IPv4 range, /${PREFIX_MIN} or smaller, is needed`
  }
  if (range.prefix > subnetSize || subnetSize > PREFIX_MAX) {
    return `subnets of /${subnetSize} cannot be cut from it`
  }
  const rival = others.find((other) => {
    const known = parseCidr(other)
    return known !== undefined && overlap(range, known)
  })
  return specialRange(range) ?? (rival && `overlaps with ${rival}`)
}

function assertOrdinary(spec: NetworkSpec, range: Cidr): void {
  const fault = specialRange(range)
  if (fault === undefined) return
  throw new SwarmError('INVALID_ARGUMENT', `network ${spec.Name}: subnet ${fault}`)
}

/** Why the range is no ordinary one, if so. */
function specialRange(range: Cidr): string | undefined {
  const found = Object.entries(SPECIAL_RANGES).find(([text]) => {
    const special = parseCidr(text)
    return special !== undefined && overlap(range, special)
  })
  return found && `${cidrText(range)} is in ${found[0]}, which is ${found[1]}`
}

/** Made local on every node, the range would cut that one off. */
function assertNoNode(store: StoreView, spec: NetworkSpec, range: Cidr): void {
  for (const node of store.list('nodes')) {
    const { hostname, addresses = [] } = node.description
    const inside = [node.advertiseHost, ...addresses].find((address) => {
      const number = parseAddress(address)
      return number !== undefined && number >= range.base && number < range.base + range.size
    })
    if (inside === undefined) continue
    const clash = `${cidrText(range)} holds ${inside}, an address of node ${hostname}`
    throw new SwarmError('INVALID_ARGUMENT', `network ${spec.Name}: subnet ${clash}`)
  }
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
  const rival = taken.find((other) => overlap(range, other))
  if (rival === undefined) return
  const clash = `${cidrText(range)} overlaps with ${cidrText(rival)}, which is in use`
  const message = `network ${spec.Name}: subnet ${clash}`
  throw new SwarmError('INVALID_ARGUMENT', message)
}

function overlap(a: Cidr, b: Cidr): boolean {
  return a.base < b.base + b.size && b.base < a.base + a.size
}
