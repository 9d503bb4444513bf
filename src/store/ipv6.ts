/**
 * Who has IPv6 addresses, and which. Nothing is allocated: an IPv4 address stands for
 * one of IPv6, the cluster's prefix and the IPv4 address behind it, so every node computes the same
 * and nothing is kept anywhere (decision 0006).
 */
import { createHash } from 'node:crypto'
import { isIPv4 } from 'node:net'
import { SwarmError } from '../base/errors.ts'
import { ipv6Text } from '../base/ipv6-text.ts'
import type { Network, Task } from './objects.ts'
import type { StoreView } from './view.ts'

/** Groups of an IPv6 address before the two that are the IPv4 address. */
const GROUPS_BEFORE = 6
/** Bits of those. */
const BITS_BEFORE = 96
const IPV4_BITS = 32

/** Whether members of the network have IPv6 addresses. */
export function isIpv6Network(network: Pick<Network, 'spec'> | undefined): boolean {
  const { EnableIPv6: enabled, Driver: driver = '' } = network?.spec ?? {}
  return enabled === true && (driver === '' || driver === 'overlay')
}

/** Whether the task has an IPv6 address: one of its networks has IPv6. */
export function hasIpv6(store: Pick<StoreView, 'get'>, task: Pick<Task, 'networks'>): boolean {
  return (task.networks ?? []).some(({ networkId }) =>
    isIpv6Network(store.get('networks', networkId)),
  )
}

/** The first 64 bits of a cluster's IPv6 addresses, and 32 zeros: what an IPv4 address follows. */
export function ipv6PrefixOf(clusterId: string): string {
  const hex = createHash('sha256').update(clusterId).digest('hex').slice(0, 10)
  const groups = [`fd${hex.slice(0, 2)}`, hex.slice(2, 6), hex.slice(6, 10)]
  return `${groups.map((group) => Number.parseInt(group, 16).toString(16)).join(':')}::`
}

/** The IPv6 address that belongs to an IPv4 one. @throws INVALID_ARGUMENT */
export function ipv6Of(prefix: string, address: string): string {
  if (!isIPv4(address)) {
    throw new SwarmError('INVALID_ARGUMENT', `address "${address}": is not IPv4`)
  }
  const [a = 0, b = 0, c = 0, d = 0] = address.split('.').map(Number)
  const [head = ''] = prefix.split('::')
  const groups = head.split(':').map((group) => Number.parseInt(group, 16))
  const zeros = Array<number>(GROUPS_BEFORE - groups.length).fill(0)
  return ipv6Text([...groups, ...zeros, a * 256 + b, c * 256 + d])
}

/** The IPv6 range that belongs to an IPv4 one; host bits are dropped. @throws INVALID_ARGUMENT */
export function ipv6RangeOf(prefix: string, cidr: string): string {
  const [address = '', bitsText = String(IPV4_BITS)] = cidr.split('/')
  const bits = Number(bitsText)
  if (!isIPv4(address) || !/^\d{1,2}$/.test(bitsText) || bits > IPV4_BITS) {
    throw new SwarmError('INVALID_ARGUMENT', `range "${cidr}": is not address/length`)
  }
  const size = 2 ** (IPV4_BITS - bits)
  const number = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
  const base = Math.floor(number / size) * size
  const text = [24, 16, 8, 0].map((shift) => Math.floor(base / 2 ** shift) % 256).join('.')
  return `${ipv6Of(prefix, text)}/${BITS_BEFORE + bits}`
}
