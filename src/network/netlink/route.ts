/**
 * Addresses, routes and rules: requests and answers. Pure; for a `NetlinkSocket` of protocol
 * `route`.
 *
 * `protocol` of a route or rule says who made it; whoever reconciles touches only its own. Prefixes
 * are text (`10.32.1.0/24`); `default` is `0.0.0.0/0` or `::/0`.
 */
import { AF_INET, AF_INET6, addressBytes, addressText, familyOf, parsePrefix } from './address.ts'
import type { Prefix } from './address.ts'
import { Attributes, required } from './attributes.ts'
import { hostOrder } from './byte-order.ts'
import type { MessageWriter, NetlinkRequest } from './message-writer.ts'
import { NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, headerView } from './message.ts'
import type { NetlinkMessage } from './message.ts'
import { malformed } from './netlink-error.ts'
import {
  IFA,
  IFA_F_NODAD,
  ROUTE_SCOPE,
  ROUTE_TYPE,
  RTA,
  RTAX_MTU,
  RTM,
  RTNH_F_ONLINK,
  TABLE_LOCAL,
  TABLE_MAIN,
} from './route-layout.ts'

const ADDRESS_HEADER_BYTES = 8
const ROUTE_HEADER_BYTES = 12
/** `RTPROT_STATIC`: a route by an administrator. */
const PROTOCOL_STATIC = 4

/** An address on a device. */
export interface LinkAddress {
  /** Index of the device. */
  readonly link: number
  /** `10.32.1.1/24` */
  readonly prefix: string
}

/** Where packets go. */
export interface Route {
  /** `10.32.2.0/24`; `0.0.0.0/0` or `::/0` = all. */
  readonly destination: string
  readonly type?: keyof typeof ROUTE_TYPE
  /** Index of the device. Local routes use the loopback's, 1. */
  readonly link?: number
  readonly gateway?: string
  /** The gateway counts as reachable on the link, whatever its address. */
  readonly onlink?: boolean
  /** Source address of what this host sends by it. */
  readonly source?: string
  /** Default: the main table, or the local one for local routes. */
  readonly table?: number
  /** Smaller wins. */
  readonly metric?: number
  readonly mtu?: number
  /** Number of who made it; default 4, static. */
  readonly protocol?: number
}

/** Which routes to read; what is left out does not count. */
export interface RouteFilter {
  readonly family: 'ipv4' | 'ipv6'
  readonly table?: number
  readonly link?: number
  readonly protocol?: number
}

/** Adds an address, or leaves it as it is when it is there. No duplicate detection for IPv6. */
export function setAddress(address: LinkAddress): NetlinkRequest {
  return addressRequest(address, 'set', RTM.newAddress, NLM_F_CREATE | NLM_F_REPLACE)
}

/** Removes an address. EADDRNOTAVAIL when it is not there. */
export function deleteAddress(address: LinkAddress): NetlinkRequest {
  return addressRequest(address, 'delete', RTM.deleteAddress, 0)
}

/** Reads addresses, of one device or of all, in both families: for `dump`. */
export function dumpAddresses(link = 0): NetlinkRequest {
  return {
    operation: 'list addresses',
    type: RTM.getAddress,
    flags: NLM_F_DUMP,
    body: (writer) => addressHeader(writer, { family: 0, bits: 0, link }),
  }
}

/** @throws NetlinkError EBADMSG */
export function decodeAddress(message: NetlinkMessage): LinkAddress {
  const header = headerView(message, ADDRESS_HEADER_BYTES)
  const attributes = new Attributes(header, ADDRESS_HEADER_BYTES)
  // On a point-to-point device ADDRESS is the other end's; LOCAL is ours, and IPv4 has it always.
  const bytes = attributes.bytes(IFA.local) ?? attributes.bytes(IFA.address)
  const text = addressText(header.getUint8(0), required(bytes, 'address'))
  return { link: hostOrder.u32(header, 4), prefix: `${text}/${header.getUint8(1)}` }
}

/** Adds a route. EEXIST when there is one with this destination, metric and table. */
export function newRoute(route: Route): NetlinkRequest {
  return routeRequest(route, 'add', RTM.newRoute, NLM_F_CREATE | NLM_F_EXCL)
}

/** Adds a route, or replaces the one with this destination, metric and table. */
export function setRoute(route: Route): NetlinkRequest {
  return routeRequest(route, 'set', RTM.newRoute, NLM_F_CREATE | NLM_F_REPLACE)
}

/** Removes the route that has all that is given. ESRCH when there is none. */
export function deleteRoute(route: Route): NetlinkRequest {
  return routeRequest(route, 'delete', RTM.deleteRoute, 0)
}

/**
 * Reads routes: for `dump`, and then {@link matchesFilter}, because old kernels give all. ENOENT
 * when the IPv4 table does not exist.
 */
export function dumpRoutes(filter: RouteFilter): NetlinkRequest {
  return {
    operation: `list ${filter.family} routes`,
    type: RTM.getRoute,
    flags: NLM_F_DUMP,
    body: (writer) => {
      routeHeader(writer, {
        family: filter.family === 'ipv4' ? AF_INET : AF_INET6,
        bits: 0,
        protocol: filter.protocol ?? 0,
        scope: 0,
        type: 0,
        flags: 0,
      })
      if (filter.table !== undefined) writer.u32(RTA.table, filter.table)
      if (filter.link !== undefined) writer.u32(RTA.device, filter.link)
    },
  }
}

/** Whether a route read is one that was asked for. */
export function matchesFilter(route: Route, filter: RouteFilter): boolean {
  return (
    (filter.table === undefined || route.table === filter.table) &&
    (filter.link === undefined || route.link === filter.link) &&
    (filter.protocol === undefined || route.protocol === filter.protocol)
  )
}

/**
 * A route with every field that it has. Nexthops of multipath routes are left out. @throws EBADMSG
 */
export function decodeRoute(message: NetlinkMessage): Route {
  const header = headerView(message, ROUTE_HEADER_BYTES)
  const attributes = new Attributes(header, ROUTE_HEADER_BYTES)
  const family = header.getUint8(0)
  const address = (type: number): string | undefined => {
    const bytes = attributes.bytes(type)
    return bytes === undefined ? undefined : addressText(family, bytes)
  }
  const any = family === AF_INET6 ? '::' : '0.0.0.0'
  const fields = {
    link: attributes.u32(RTA.device),
    gateway: address(RTA.gateway),
    source: address(RTA.preferredSource),
    metric: attributes.u32(RTA.priority),
    mtu: attributes.nested(RTA.metrics)?.u32(RTAX_MTU),
  }
  return {
    destination: `${address(RTA.destination) ?? any}/${header.getUint8(1)}`,
    type: routeTypeOf(header.getUint8(7)),
    onlink: (hostOrder.u32(header, 8) & RTNH_F_ONLINK) !== 0,
    table: attributes.u32(RTA.table) ?? header.getUint8(4),
    protocol: header.getUint8(5),
    ...withoutUndefined(fields),
  }
}

type Defined<T> = { readonly [Key in keyof T]?: Exclude<T[Key], undefined> }

function withoutUndefined<T extends object>(fields: T): Defined<T> {
  const entries = Object.entries(fields).filter(([, value]) => value !== undefined)
  return Object.fromEntries(entries) as Defined<T>
}

function routeTypeOf(number: number): keyof typeof ROUTE_TYPE {
  for (const [name, value] of Object.entries(ROUTE_TYPE)) {
    if (value === number) return name as keyof typeof ROUTE_TYPE
  }
  throw malformed(`route type ${number}`)
}

function addressRequest(
  address: LinkAddress,
  verb: string,
  type: number,
  flags: number,
): NetlinkRequest {
  const prefix = parsePrefix(address.prefix)
  const family = familyOf(prefix.address)
  return {
    operation: `${verb} address ${address.prefix} on device ${address.link}`,
    type,
    flags,
    body: (writer) => {
      addressHeader(writer, { family, bits: prefix.bits, link: address.link })
      const bytes = addressBytes(prefix.address)
      writer.bytesOf(IFA.local, bytes)
      writer.bytesOf(IFA.address, bytes)
      if (family === AF_INET6 && type === RTM.newAddress) writer.u32(IFA.flags, IFA_F_NODAD)
    },
  }
}

/** Writes `struct ifaddrmsg`. */
function addressHeader(
  writer: MessageWriter,
  header: { readonly family: number; readonly bits: number; readonly link: number },
): void {
  writer.rawU8(header.family)
  writer.rawU8(header.bits)
  writer.rawU8(0)
  writer.rawU8(0)
  writer.rawU32(header.link)
}

function routeRequest(route: Route, verb: string, type: number, flags: number): NetlinkRequest {
  const prefix = parsePrefix(route.destination)
  return {
    operation: `${verb} route ${route.destination}`,
    type,
    flags,
    body: (writer) => writeRoute(writer, route, { prefix, isDelete: type === RTM.deleteRoute }),
  }
}

function writeRoute(
  writer: MessageWriter,
  route: Route,
  about: { readonly prefix: Prefix; readonly isDelete: boolean },
): void {
  const type = route.type ?? 'unicast'
  const { prefix, isDelete } = about
  routeHeader(writer, {
    family: familyOf(prefix.address),
    bits: prefix.bits,
    // For a deletion 0 means any.
    protocol: route.protocol ?? (isDelete ? 0 : PROTOCOL_STATIC),
    scope: isDelete ? ROUTE_SCOPE.nowhere : scopeOf(route, type),
    type: isDelete && route.type === undefined ? 0 : ROUTE_TYPE[type],
    flags: route.onlink === true ? RTNH_F_ONLINK : 0,
  })
  writer.u32(RTA.table, route.table ?? (type === 'local' ? TABLE_LOCAL : TABLE_MAIN))
  if (prefix.bits > 0) writer.bytesOf(RTA.destination, addressBytes(prefix.address))
  writeNextHop(writer, route)
}

function writeNextHop(writer: MessageWriter, route: Route): void {
  const { link, gateway, source, metric, mtu } = route
  if (link !== undefined) writer.u32(RTA.device, link)
  if (gateway !== undefined) writer.bytesOf(RTA.gateway, addressBytes(gateway))
  if (source !== undefined) writer.bytesOf(RTA.preferredSource, addressBytes(source))
  if (metric !== undefined) writer.u32(RTA.priority, metric)
  if (mtu !== undefined) writer.nested(RTA.metrics, () => writer.u32(RTAX_MTU, mtu))
}

/** How far away the destination is, as `ip route` chooses it. */
function scopeOf(route: Route, type: keyof typeof ROUTE_TYPE): number {
  if (type === 'local') return ROUTE_SCOPE.host
  if (type !== 'unicast') return ROUTE_SCOPE.global
  return route.gateway === undefined ? ROUTE_SCOPE.link : ROUTE_SCOPE.global
}

interface RouteHeader {
  readonly family: number
  readonly bits: number
  readonly protocol: number
  readonly scope: number
  readonly type: number
  readonly flags: number
}

/** Writes `struct rtmsg`; the table stands in an attribute, which has room for all numbers. */
function routeHeader(writer: MessageWriter, header: RouteHeader): void {
  writer.rawU8(header.family)
  writer.rawU8(header.bits)
  writer.rawU8(0)
  writer.rawU8(0)
  writer.rawU8(0)
  writer.rawU8(header.protocol)
  writer.rawU8(header.scope)
  writer.rawU8(header.type)
  writer.rawU32(header.flags)
}
