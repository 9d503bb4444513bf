/**
 * Names, marks and addresses of the data plane. All derive from ids and addresses, so nothing is
 * kept anywhere, and every node computes the same (decision 0006).
 */
import { createHash } from 'node:crypto'
import { SwarmError } from '../../base/errors.ts'

/** Digits of a node id in the names of its devices and tables; Linux takes 15 letters in all. */
const NODE_ID_DIGITS = 8
const TASK_ID_DIGITS = 12
/** Marks of published ports begin here: 254.0.0.0 as a number, where no address can be. */
const PORT_MARK_BASE = 0xfe00_0000
const VXLAN_ID_BYTES = 3

/** Names of what one node owns in its kernel. */
export interface PlaneNames {
  readonly bridge: string
  readonly vxlan: string
  /** nftables table, in the families `ip` and `ip6`. */
  readonly table: string
  /** Table of a kernel balancer. */
  readonly balancerTable: string
}

/** The names that belong to a node. */
export function planeNames(nodeId: string): PlaneNames {
  const digits = nodeId.slice(-NODE_ID_DIGITS)
  return {
    bridge: `sk${digits}`,
    vxlan: `sv${digits}`,
    table: `skein_${digits}`,
    balancerTable: `skein_${digits}_lb`,
  }
}

/** The host's end of a task's cable. */
export function vethName(taskId: string): string {
  return `skv${taskId.slice(-TASK_ID_DIGITS)}`
}

/** File name of a task's network namespace. */
export function namespaceName(taskId: string): string {
  return `skein-${taskId}`
}

/** MAC of a node's VXLAN device. */
export function macOfNode(nodeId: string): string {
  return localMac(nodeId)
}

/** MAC of a node's bridge: without one of its own it would change with the ports. */
export function macOfBridge(nodeId: string): string {
  return localMac(`bridge ${nodeId}`)
}

/** MAC of a task: the same for the same address, so that no neighbour cache can be stale. */
export function macOfTask(cidr: string): string {
  return localMac(cidr)
}

/** VXLAN network of a cluster: two clusters on one underlay do not meet. */
export function vxlanIdOf(clusterId: string): number {
  return createHash('sha256').update(clusterId).digest().readUIntBE(0, VXLAN_ID_BYTES)
}

/** The mark of an address: a VIP's, and a peer node's by its subnet's base. */
export function markOfAddress(address: string): number {
  return ipv4Number(address)
}

/** The mark of a published port. `protocol` is the number: 6, 17, 132. */
export function markOfPort(protocol: number, port: number): number {
  return PORT_MARK_BASE + protocol * 0x1_0000 + port
}

/** A block of IPv4 addresses. */
export interface Ipv4Range {
  readonly base: number
  readonly bits: number
  readonly last: number
}

/** Parses `10.1.2.0/24`; host bits are dropped. @throws INVALID_ARGUMENT */
export function parseRange(cidr: string): Ipv4Range {
  const [address = '', bitsText = '32'] = cidr.split('/')
  const bits = Number(bitsText)
  if (!/^\d{1,2}$/.test(bitsText) || bits > 32) {
    throw new SwarmError('INVALID_ARGUMENT', `range "${cidr}": is not address/length`)
  }
  const size = 2 ** (32 - bits)
  const base = Math.floor(ipv4Number(address) / size) * size
  return { base, bits, last: base + size - 1 }
}

/** First address of a node's subnet: its tunnel end. */
export function baseOf(subnet: string): string {
  return ipv4Text(parseRange(subnet).base)
}

/** Second address of a node's subnet: its gateway and resolver. */
export function gatewayOf(subnet: string): string {
  return ipv4Text(parseRange(subnet).base + 1)
}

/** `a.b.c.d` as a number. @throws INVALID_ARGUMENT */
export function ipv4Number(address: string): number {
  const parts = address.split('.')
  const isValid = parts.length === 4 && parts.every((part) => /^\d{1,3}$/.test(part) && +part < 256)
  if (isValid) return parts.reduce((sum, part) => sum * 256 + Number(part), 0)
  throw new SwarmError('INVALID_ARGUMENT', `address "${address}": is not IPv4`)
}

/** A number as `a.b.c.d`. */
export function ipv4Text(number: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(number / 2 ** shift) % 256).join('.')
}

/** A locally administered address: `02:` and five bytes of a hash. */
function localMac(text: string): string {
  const digest = createHash('sha256').update(text).digest('hex')
  return ['02', ...(digest.slice(0, 10).match(/../g) ?? [])].join(':')
}
