/**
 * What a virtual server is in the kernel: an IPVS service by firewall mark in each address family,
 * and the packets that get the mark. Pure. See decision 0006.
 *
 * - The mark of a virtual address is the address as a number; that of a published port lies in
 *   254.0.0.0/8, where no address of a network is.
 * - A service by mark answers for every port of an address, and its destinations with port 0 are
 *   given the client's port.
 * - A destination of weight 0 keeps its connections and gets no new one. A flow of datagrams never
 *   ends, so on a published UDP port a draining backend is left out and the flow moves, unless
 *   there is no other.
 */
import { isIPv4 } from 'node:net'
import { SwarmError } from '../../base/errors.ts'
import { AF_INET, AF_INET6, addressBytes, addressText, familyOf } from '../netlink/address.ts'
import { WEIGHT_MAX } from '../netlink/ipvs.ts'
import type { DestinationOptions, ServiceKey, ServiceOptions } from '../netlink/ipvs.ts'
import { PROTOCOL_NUMBER } from '../netlink/ipvs-layout.ts'
import type { Backend, Scheduler, VirtualServer } from '../ports.ts'
import { tableService } from './table.ts'
import type { TableDestination, TableService } from './table.ts'

/** First mark of published ports. */
export const PUBLISHED_MARK_BASE = 0xfe00_0000
const PUBLISHED_MARK_LAST = 0xfeff_ffff
const PORT_MAX = 65_535
const DEFAULT_SCHEDULER: Scheduler = 'wrr'

/** Packets that get a mark. */
export interface PacketMark {
  readonly mark: number
  readonly packets:
    | { readonly type: 'address'; readonly address: string }
    | {
        readonly type: 'port'
        readonly protocol: keyof typeof PROTOCOL_NUMBER
        readonly port: number
      }
}

/** A virtual server in the kernel. */
export interface Placement {
  readonly server: VirtualServer
  readonly mark: number
  /** Of both families where IPv6 is wanted. */
  readonly services: readonly TableService[]
  readonly marks: readonly PacketMark[]
}

/** How servers are placed. */
export interface PlacementOptions {
  /** First 12 bytes of tasks' and services' IPv6 addresses, as an address; absent = none. */
  readonly ipv6Prefix?: string
}

/** The kernel's part of a server. @throws INVALID_ARGUMENT */
export function placementOf(server: VirtualServer, options: PlacementOptions): Placement {
  for (const backend of server.backends) checkBackend(server, backend)
  const mark = markOf(server)
  const balancing = serviceOptions(server.scheduler ?? DEFAULT_SCHEDULER)
  const backends = kernelBackends(server)
  const service = (key: ServiceKey, address: (backend: Backend) => string): TableService =>
    tableService(key, balancing, destinationsOf(backends, address))
  const services = [service({ type: 'mark', mark, family: 'ipv4' }, (backend) => backend.address)]
  const { ipv6Prefix } = options
  if (ipv6Prefix !== undefined) {
    const key = { type: 'mark', mark, family: 'ipv6' } as const
    services.push(service(key, (backend) => ipv6AddressOf(backend.address, ipv6Prefix)))
  }
  return { server, mark, services, marks: marksOf(server, mark, options) }
}

/** The firewall mark of a server. @throws INVALID_ARGUMENT when it has none */
export function markOf({ id, protocol, address, port }: VirtualServer): number {
  if (protocol !== 'any') return PUBLISHED_MARK_BASE + PROTOCOL_NUMBER[protocol] * 0x1_0000 + port
  if (familyOf(address) !== AF_INET) {
    throw new SwarmError('INVALID_ARGUMENT', `virtual server ${id}: ${address} is not IPv4`)
  }
  return addressNumber(address)
}

/** Whether a mark is one of published ports. */
export function isPublishedMark(mark: number): boolean {
  return mark >= PUBLISHED_MARK_BASE && mark <= PUBLISHED_MARK_LAST
}

/** An IPv4 address as a number. */
export function addressNumber(address: string): number {
  return addressBytes(address).reduce((number, byte) => number * 256 + byte, 0)
}

/** The IPv6 address that stands for an IPv4 address: the prefix, then its four bytes. */
export function ipv6AddressOf(address: string, prefix: string): string {
  const bytes = addressBytes(prefix)
  bytes.set(addressBytes(address), 12)
  return addressText(AF_INET6, bytes)
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

function checkBackend({ id, protocol }: VirtualServer, backend: Backend): void {
  const { taskId, address, port, weight } = backend
  const refuse = (what: string): never => {
    throw new SwarmError('INVALID_ARGUMENT', `virtual server ${id}: task ${taskId}: ${what}`)
  }
  if (!isIPv4(address)) refuse(`address "${address}" is not IPv4`)
  const portMin = protocol === 'any' ? 0 : 1
  if (!Number.isInteger(port) || port < portMin || port > PORT_MAX) refuse(`port ${port}`)
  if (!Number.isInteger(weight) || weight < 0) refuse(`weight ${weight}`)
}

function sameBackend(a: Backend, b: Backend | undefined): boolean {
  return a.address === b?.address && a.port === b.port && a.weight === b.weight
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

function destinationsOf(
  backends: readonly Backend[],
  addressOf: (backend: Backend) => string,
): TableDestination[] {
  // Two tasks may have one address when it is used again: the one that serves counts.
  const byWeight = backends.toSorted((a, b) => a.weight - b.weight)
  let options = masquerade(0)
  return byWeight.map((backend) => {
    // Most weights are equal: a large table shares what it can.
    if (options.weight !== Math.min(backend.weight, WEIGHT_MAX))
      options = masquerade(backend.weight)
    return { key: { address: addressOf(backend), port: backend.port }, options }
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

function marksOf(server: VirtualServer, mark: number, options: PlacementOptions): PacketMark[] {
  const { protocol, address, port } = server
  if (protocol !== 'any') return [{ mark, packets: { type: 'port', protocol, port } }]
  const { ipv6Prefix } = options
  const addresses =
    ipv6Prefix === undefined ? [address] : [address, ipv6AddressOf(address, ipv6Prefix)]
  return addresses.map((each) => ({ mark, packets: { type: 'address', address: each } }))
}
