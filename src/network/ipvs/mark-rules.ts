/**
 * The nft rules that give packets their mark: a static skeleton, loaded in one transaction, and
 * four maps whose elements change by netlink. Pure.
 *
 * - The chains run before routing decisions (`mangle`): IPVS takes marked packets where they are
 *   delivered locally, and those of this node's own programs on their way out.
 * - A virtual address is marked always: nothing but IPVS may answer for it. A published port is
 *   marked only for connections that are new to the node, so those that the userspace balancer
 *   accepted stay with it; IPVS finds its own by address, without a mark.
 * - 127.0.0.0/8 and ::1 stay with the userspace balancer.
 */
import { AF_INET6, familyOf } from '../netlink/address.ts'
import { addressField, numberField, portField, protocolField } from '../netlink/nft-field.ts'
import type { NftElement } from '../netlink/nft-element.ts'
import type { NftTable } from '../netlink/nftables.ts'
import type { PacketMark } from './placement.ts'

/** The maps: address to mark, and protocol and port to mark, of IPv4 and IPv6. */
export const MARK_MAPS = ['vips', 'vips6', 'ports', 'ports6'] as const

/** One of {@link MARK_MAPS}. */
export type MarkMap = (typeof MARK_MAPS)[number]

/** An element and the map that it belongs to. */
export interface MarkElement {
  readonly map: MarkMap
  readonly element: NftElement
}

/** Behind the plane's own chain at `mangle`, which clears the marks of what tasks send. */
const PREROUTING = -140

/** The script that makes the table, or repairs it, and keeps the elements that it has. */
export function markScript({ family, name }: NftTable): string {
  const table = `${family} ${name}`
  return [
    `add table ${table}`,
    `add map ${table} vips { type ipv4_addr : mark; }`,
    `add map ${table} vips6 { type ipv6_addr : mark; }`,
    `add map ${table} ports { type inet_proto . inet_service : mark; }`,
    `add map ${table} ports6 { type inet_proto . inet_service : mark; }`,
    `add chain ${table} prerouting { type filter hook prerouting priority ${PREROUTING}; }`,
    `add chain ${table} output { type route hook output priority mangle; policy accept; }`,
    `flush chain ${table} prerouting`,
    `flush chain ${table} output`,
    ...['prerouting', 'output'].flatMap((chain) => rules(`${table} ${chain}`)),
    '',
  ].join('\n')
}

function rules(chain: string): string[] {
  const byPort = 'meta l4proto { tcp, udp, sctp } meta mark set meta l4proto . th dport map'
  return [
    `add rule ${chain} meta mark set ip daddr map @vips return`,
    `add rule ${chain} meta mark set ip6 daddr map @vips6 return`,
    `add rule ${chain} ct state established,related return`,
    `add rule ${chain} ip daddr 127.0.0.0/8 return`,
    `add rule ${chain} ip6 daddr ::1 return`,
    `add rule ${chain} meta nfproto ipv4 fib daddr type local ${byPort} @ports`,
    `add rule ${chain} meta nfproto ipv6 fib daddr type local ${byPort} @ports6`,
  ]
}

/** The map's element for packets that get a mark. */
export function markElement({ mark, packets }: PacketMark): MarkElement {
  const data = [numberField(mark)]
  if (packets.type === 'port') {
    const key = [protocolField(packets.protocol), portField(packets.port)]
    return { map: packets.family === 'ipv6' ? 'ports6' : 'ports', element: { key, data } }
  }
  const map = familyOf(packets.address) === AF_INET6 ? 'vips6' : 'vips'
  return { map, element: { key: [addressField(packets.address)], data } }
}
