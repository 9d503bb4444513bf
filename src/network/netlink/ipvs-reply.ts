/**
 * Reads IPVS's answers. The kernel always gives addresses in 16 bytes; the family attribute says
 * how many count. Flags that the kernel sets itself are left out, so what is read compares with
 * what was wanted. Counters are 64-bit; kernels before 4.1 give 32-bit ones, which are read
 * instead.
 */
import { AF_INET, AF_INET6, addressText } from './address.ts'
import { required } from './attributes.ts'
import type { Attributes } from './attributes.ts'
import { genericAttributes } from './generic.ts'
import {
  CMD_ATTR,
  DESTINATION_ATTR,
  FORWARDING,
  INFO_ATTR,
  PROTOCOL_NUMBER,
  SERVICE_ATTR,
  SERVICE_FLAG,
  TUNNEL_TYPE,
} from './ipvs-layout.ts'
import type {
  DestinationKey,
  DestinationTunnel,
  IpvsTimeouts,
  Persistence,
  ServiceKey,
  ServiceOptions,
} from './ipvs.ts'
import type { NetlinkMessage } from './message.ts'
import { malformed } from './netlink-error.ts'

/**
 * Totals since the start or the last zeroing, and the kernel's own rates (0 when it keeps none).
 */
export interface IpvsStats {
  readonly connections: number
  readonly inPackets: number
  readonly outPackets: number
  readonly inBytes: number
  readonly outBytes: number
  readonly connectionsPerSecond: number
  readonly inPacketsPerSecond: number
  readonly outPacketsPerSecond: number
  readonly inBytesPerSecond: number
  readonly outBytesPerSecond: number
}

/** A service in the kernel. */
export interface KernelService {
  readonly key: ServiceKey
  readonly options: ServiceOptions
  readonly stats: IpvsStats
}

/** A destination in the kernel. */
export interface KernelDestination {
  readonly key: DestinationKey
  readonly forwarding: keyof typeof FORWARDING
  readonly weight: number
  readonly upperThreshold: number
  readonly lowerThreshold: number
  /** Only with forwarding `tunnel`, from kernels that know types of tunnels. */
  readonly tunnel?: DestinationTunnel
  readonly activeConnections: number
  readonly inactiveConnections: number
  readonly persistentConnections: number
  readonly stats: IpvsStats
}

/** About the kernel's IPVS. */
export interface IpvsInfo {
  /** `1.2.1` */
  readonly version: string
  /** Buckets of the connection table. */
  readonly connectionTableSize: number
}

/** @throws NetlinkError EBADMSG */
export function decodeService(message: NetlinkMessage): KernelService {
  const attributes = genericAttributes(message).nested(CMD_ATTR.service)
  const service = required(attributes, 'service')
  const family = required(service.u16(SERVICE_ATTR.family), 'family')
  const flags = service.u32(SERVICE_ATTR.flags) ?? 0
  const isPersistent = (flags & SERVICE_FLAG.persistent) !== 0
  return {
    key: decodeKey(service, family),
    options: {
      scheduler: required(service.text(SERVICE_ATTR.scheduler), 'scheduler'),
      onePacket: (flags & SERVICE_FLAG.onePacket) !== 0,
      schedulerFallback: (flags & SERVICE_FLAG.schedulerFallback) !== 0,
      schedulerPort: (flags & SERVICE_FLAG.schedulerPort) !== 0,
      ...(isPersistent ? { persistence: decodePersistence(service, family) } : {}),
    },
    stats: decodeStats(service, SERVICE_ATTR),
  }
}

/** @throws NetlinkError EBADMSG */
export function decodeDestination(message: NetlinkMessage): KernelDestination {
  const attributes = genericAttributes(message).nested(CMD_ATTR.destination)
  const destination = required(attributes, 'destination')
  const u32 = (type: number): number => required(destination.u32(type), `attribute ${type}`)
  const family = destination.u16(DESTINATION_ATTR.family) ?? AF_INET
  const address = required(destination.bytes(DESTINATION_ATTR.address), 'address')
  const forwarding = nameOf(FORWARDING, u32(DESTINATION_ATTR.method) & 7, 'forwarding')
  const tunnel = forwarding === 'tunnel' ? decodeTunnel(destination) : undefined
  return {
    key: {
      address: addressText(family, address),
      port: required(destination.u16be(DESTINATION_ATTR.port), 'port'),
    },
    forwarding,
    weight: u32(DESTINATION_ATTR.weight),
    upperThreshold: u32(DESTINATION_ATTR.upperThreshold),
    lowerThreshold: u32(DESTINATION_ATTR.lowerThreshold),
    ...(tunnel === undefined ? {} : { tunnel }),
    activeConnections: u32(DESTINATION_ATTR.activeConnections),
    inactiveConnections: u32(DESTINATION_ATTR.inactiveConnections),
    persistentConnections: u32(DESTINATION_ATTR.persistentConnections),
    stats: decodeStats(destination, DESTINATION_ATTR),
  }
}

/** @throws NetlinkError EBADMSG */
export function decodeTimeouts(message: NetlinkMessage): IpvsTimeouts {
  const attributes = genericAttributes(message)
  return {
    tcpSeconds: attributes.u32(CMD_ATTR.timeoutTcp) ?? 0,
    tcpFinSeconds: attributes.u32(CMD_ATTR.timeoutTcpFin) ?? 0,
    udpSeconds: attributes.u32(CMD_ATTR.timeoutUdp) ?? 0,
  }
}

/** @throws NetlinkError EBADMSG */
export function decodeInfo(message: NetlinkMessage): IpvsInfo {
  const attributes = genericAttributes(message)
  const version = required(attributes.u32(INFO_ATTR.version), 'version')
  return {
    version: [version >> 16, version >> 8, version].map((part) => part & 0xff).join('.'),
    connectionTableSize: required(attributes.u32(INFO_ATTR.connectionTableSize), 'table size'),
  }
}

function decodeKey(service: Attributes, family: number): ServiceKey {
  const mark = service.u32(SERVICE_ATTR.mark)
  if (mark !== undefined) {
    if (family !== AF_INET && family !== AF_INET6) throw malformed(`family ${family}`)
    return { type: 'mark', mark, family: family === AF_INET ? 'ipv4' : 'ipv6' }
  }
  const protocol = required(service.u16(SERVICE_ATTR.protocol), 'protocol')
  const address = required(service.bytes(SERVICE_ATTR.address), 'address')
  return {
    type: 'address',
    protocol: nameOf(PROTOCOL_NUMBER, protocol, 'protocol'),
    address: addressText(family, address),
    port: required(service.u16be(SERVICE_ATTR.port), 'port'),
  }
}

function decodePersistence(service: Attributes, family: number): Persistence {
  const timeoutSeconds = required(service.u32(SERVICE_ATTR.timeout), 'timeout')
  if (family === AF_INET6) {
    return { timeoutSeconds, prefixBits: required(service.u32(SERVICE_ATTR.netmask), 'netmask') }
  }
  const mask = required(service.u32be(SERVICE_ATTR.netmask), 'netmask')
  return { timeoutSeconds, prefixBits: Math.clz32(~mask) }
}

function decodeTunnel(destination: Attributes): DestinationTunnel | undefined {
  const type = destination.u8(DESTINATION_ATTR.tunnelType)
  if (type === undefined) return undefined
  return {
    type: nameOf(TUNNEL_TYPE, type, 'tunnel type'),
    port: destination.u16be(DESTINATION_ATTR.tunnelPort) ?? 0,
    flags: destination.u16(DESTINATION_ATTR.tunnelFlags) ?? 0,
  }
}

/**
 * Attributes are numbered by `IPVS_STATS_ATTR_*`. Bytes are 64-bit in the 32-bit statistics too.
 */
function decodeStats(
  owner: Attributes,
  types: { readonly stats64: number; readonly stats32: number },
): IpvsStats {
  const wide = owner.nested(types.stats64)
  const narrow = wide === undefined ? owner.nested(types.stats32) : undefined
  const count = (type: number): number => wide?.u64(type) ?? narrow?.u32(type) ?? 0
  const bytes = (type: number): number => wide?.u64(type) ?? narrow?.u64(type) ?? 0
  return {
    connections: count(1),
    inPackets: count(2),
    outPackets: count(3),
    inBytes: bytes(4),
    outBytes: bytes(5),
    connectionsPerSecond: count(6),
    inPacketsPerSecond: count(7),
    outPacketsPerSecond: count(8),
    inBytesPerSecond: count(9),
    outBytesPerSecond: count(10),
  }
}

function nameOf<Name extends string>(
  numbers: Readonly<Record<Name, number>>,
  number: number,
  what: string,
): Name {
  for (const name of Object.keys(numbers) as Name[]) if (numbers[name] === number) return name
  throw malformed(`${what} ${number}`)
}
