/**
 * What a virtual server is in the kernel: an IPVS service by firewall mark in its address family,
 * and the packets that get the mark. Pure. See decision 0006.
 *
 * - The mark of a virtual address is the address as a number; that of a published port lies in
 *   254.0.0.0/8, where no address of a network is. In IPv6 they are others: that of the IPv4
 *   address that an address stands for with the first bit turned, and 252.0.0.0/8.
 * - A service by mark answers for every port of an address, and its destinations with port 0 are
 *   given the client's port.
 * - A published port of which no backend takes new connections gives no mark: its packets go to
 *   the userspace balancer, or nowhere, and are refused by a reset. IPVS itself says `port
 *   unreachable`, which a client on this host misses while it still holds its socket, and then asks
 *   again after a second. Connections need no mark. A virtual address keeps its mark all the same:
 *   without it the node's own sockets would answer there.
 * - A destination of weight 0 keeps its connections and gets no new one. A flow of datagrams never
 *   ends, so on a published UDP port a draining backend is left out and the flow moves, unless
 *   there is no other.
 */
import { isIPv4, isIPv6 } from 'node:net'
import { SwarmError } from '../../base/errors.ts'
import { AF_INET6, addressBytes, familyOf } from '../netlink/address.ts'
import { WEIGHT_MAX } from '../netlink/ipvs.ts'
import type { DestinationOptions, ServiceOptions } from '../netlink/ipvs.ts'
import { PROTOCOL_NUMBER } from '../netlink/ipvs-layout.ts'
import type { Backend, Scheduler, VirtualServer } from '../ports.ts'
import { schedulerFor } from './schedulers.ts'
import { tableService } from './table.ts'
import type { TableDestination, TableService } from './table.ts'

/** First marks of published ports. */
export const PUBLISHED_MARK_BASE = { ipv4: 0xfe00_0000, ipv6: 0xfc00_0000 } as const
const PUBLISHED_MARKS = 0x100_0000
/** What tells the mark of an IPv6 address from that of the IPv4 address that it stands for. */
const IPV6_MARK_BIT = 0x8000_0000
const PORT_MAX = 65_535
const IPV4_BYTES = 4
const DEFAULT_SCHEDULER: Scheduler = 'wrr'

/** Packets that get a mark. */
export interface PacketMark {
  readonly mark: number
  readonly packets:
    | { readonly type: 'address'; readonly address: string }
    | {
        readonly type: 'port'
        readonly family: ServerFamily
        readonly protocol: keyof typeof PROTOCOL_NUMBER
        readonly port: number
      }
}

/** A virtual server in the kernel. */
export interface Placement {
  readonly server: VirtualServer
  readonly mark: number
  readonly service: TableService
  readonly marks: readonly PacketMark[]
}

/** In which family a server is asked; its backends have addresses of that family. */
export type ServerFamily = 'ipv4' | 'ipv6'

/**
 * The kernel's part of a server; `missing` are schedulers that the kernel has not.
 * @throws INVALID_ARGUMENT
 */
export function placementOf(server: VirtualServer, missing: readonly Scheduler[] = []): Placement {
  for (const backend of server.backends) checkBackend(server, backend)
  const mark = markOf(server)
  const key = { type: 'mark', mark, family: familyOfServer(server) } as const
  const wanted = server.scheduler ?? DEFAULT_SCHEDULER
  const balancing = serviceOptions(schedulerFor(wanted, missing) ?? wanted)
  const backends = kernelBackends(server)
  const service = tableService(key, balancing, destinationsOf(backends))
  const isServing = server.protocol === 'any' || backends.some(({ weight }) => weight > 0)
  return { server, mark, service, marks: isServing ? [{ mark, packets: packetsOf(server) }] : [] }
}

/** The firewall mark of a server. */
export function markOf(server: VirtualServer): number {
  const { protocol, address, port } = server
  const family = familyOfServer(server)
  if (protocol !== 'any') {
    return PUBLISHED_MARK_BASE[family] + PROTOCOL_NUMBER[protocol] * 0x1_0000 + port
  }
  return family === 'ipv4' ? addressNumber(address) : otherFamily(addressNumber(address))
}

/** Whether a mark is one of published ports. */
export function isPublishedMark(mark: number): boolean {
  return Object.values(PUBLISHED_MARK_BASE).some(
    (base) => mark >= base && mark < base + PUBLISHED_MARKS,
  )
}

/** An IPv4 address, or the one that an IPv6 address stands for, as a number. */
export function addressNumber(address: string): number {
  const last = addressBytes(address).slice(-IPV4_BYTES)
  return last.reduce((number, byte) => number * 256 + byte, 0)
}

/** The IPv4 address of a mark that an IPv6 address has, as a number. Its own inverse. */
export function otherFamily(mark: number): number {
  return (mark ^ IPV6_MARK_BIT) >>> 0
}

/** Whether nothing about the kernel's part differs. */
export function samePlacement(a: VirtualServer, b: VirtualServer): boolean {
  return (
    a.protocol === b.protocol &&
    a.address === b.address &&
    a.port === b.port &&
    a.scheduler === b.scheduler &&
    a.backends.length === b.backends.length &&
    a.backends.every((backend, index) => sameBackend(backend, b.backends[index]))
  )
}

function checkBackend(server: VirtualServer, backend: Backend): void {
  const { id, protocol } = server
  const { taskId, address, port, weight } = backend
  const refuse = (what: string): never => {
    throw new SwarmError('INVALID_ARGUMENT', `virtual server ${id}: task ${taskId}: ${what}`)
  }
  const family = familyOfServer(server)
  const isOfFamily = family === 'ipv6' ? isIPv6(address) : isIPv4(address)
  if (!isOfFamily) refuse(`address "${address}" is not ${family}`)
  const portMin = protocol === 'any' ? 0 : 1
  if (!Number.isInteger(port) || port < portMin || port > PORT_MAX) refuse(`port ${port}`)
  if (!Number.isInteger(weight) || weight < 0) refuse(`weight ${weight}`)
}

function sameBackend(a: Backend, b: Backend | undefined): boolean {
  return a.address === b?.address && a.port === b.port && a.weight === b.weight && a.lost === b.lost
}

/** `mh` with the client's address alone: it comes back to its backend, on every node. */
function serviceOptions(scheduler: Scheduler): ServiceOptions {
  return {
    scheduler,
    onePacket: false,
    schedulerFallback: scheduler === 'mh' || scheduler === 'sh',
    schedulerPort: false,
  }
}

function kernelBackends({ protocol, backends }: VirtualServer): readonly Backend[] {
  if (protocol !== 'udp' || !backends.some((backend) => backend.weight > 0)) return backends
  return backends.filter((backend) => backend.weight > 0)
}

function destinationsOf(backends: readonly Backend[]): TableDestination[] {
  // Two tasks may have one address when it is used again: the one that serves counts.
  const byWeight = backends.toSorted((a, b) => a.weight - b.weight)
  let options = masquerade(0)
  return byWeight.map((backend) => {
    // Most weights are equal: a large table shares what it can.
    if (options.weight !== Math.min(backend.weight, WEIGHT_MAX))
      options = masquerade(backend.weight)
    return { key: { address: backend.address, port: backend.port }, options }
  })
}

function masquerade(weight: number): DestinationOptions {
  return {
    forwarding: 'masquerade',
    weight: Math.min(weight, WEIGHT_MAX),
    upperThreshold: 0,
    lowerThreshold: 0,
  }
}

function packetsOf(server: VirtualServer): PacketMark['packets'] {
  const { protocol, address, port } = server
  if (protocol === 'any') return { type: 'address', address }
  return { type: 'port', family: familyOfServer(server), protocol, port }
}

function familyOfServer({ address }: VirtualServer): ServerFamily {
  return familyOf(address) === AF_INET6 ? 'ipv6' : 'ipv4'
}
