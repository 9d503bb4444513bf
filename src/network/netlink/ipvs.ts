/**
 * Requests to the kernel's load balancer (IPVS). Pure: they are given to a `NetlinkSocket` of
 * protocol `generic`, with the family's id found by `resolveFamily(socket, IPVS_FAMILY)`;
 * `ipvs-reply.ts` reads the answers.
 *
 * What the kernel does, measured:
 * - NEW and SET replace everything: each request carries all options, so nothing is reset by
 *   omission.
 * - A service that exists: EEXIST; set, delete or get of one that does not: ESRCH. A destination
 *   that exists: EEXIST; set or delete of one that does not: ENOENT. An unknown scheduler: ENOENT
 *   too.
 * - Dumping destinations of a service that does not exist is an empty success.
 * - Port 0 without persistence and weights above 16 bits are accepted by the kernel; we refuse
 *   them.
 * - Without CAP_NET_ADMIN in the first user namespace even reading is EPERM.
 * Source: `net/netfilter/ipvs/ip_vs_ctl.c`.
 */
import { SwarmError } from '../../base/errors.ts'
import { AF_INET, AF_INET6, addressBytes, familyOf } from './address.ts'
import { genericHeader } from './generic.ts'
import {
  CMD_ATTR,
  DESTINATION_ATTR,
  FORWARDING,
  IPVS_CMD,
  IPVS_VERSION,
  PROTOCOL_NUMBER,
  SERVICE_ATTR,
  SERVICE_FLAG,
  TUNNEL_TYPE,
} from './ipvs-layout.ts'
import type { MessageWriter, NetlinkRequest } from './message-writer.ts'
import { NLM_F_DUMP } from './message.ts'

/** Largest weight: what every tool that reads IPVS can show. */
export const WEIGHT_MAX = 65_535
const FLAGS_MASK = 0xffff_ffff

/** What a virtual service answers to. */
export type ServiceKey =
  | {
      readonly type: 'address'
      readonly protocol: keyof typeof PROTOCOL_NUMBER
      readonly address: string
      /** 0 = every port; only with persistence. */
      readonly port: number
    }
  | {
      readonly type: 'mark'
      /** Firewall mark, not 0. */
      readonly mark: number
      /** The same mark may have a service in each family. */
      readonly family: 'ipv4' | 'ipv6'
    }

/** One client stays with one destination. */
export interface Persistence {
  readonly timeoutSeconds: number
  /** Clients that share this many leading bits count as one: 32 or 128 = each for itself. */
  readonly prefixBits: number
}

/** How a virtual service balances. */
export interface ServiceOptions {
  /** `rr wrr lc wlc sh mh dh sed nq fo ovf lblc lblcr` */
  readonly scheduler: string
  /** Each datagram is scheduled for itself. */
  readonly onePacket: boolean
  /** sh, mh: another destination when the chosen one has weight 0. */
  readonly schedulerFallback: boolean
  /** sh, mh: the source port counts too. */
  readonly schedulerPort: boolean
  readonly persistence?: Persistence
}

/** A destination within its service. */
export interface DestinationKey {
  readonly address: string
  /** 0 = the port the packet has (mark services). */
  readonly port: number
}

/** Encapsulation towards a destination with forwarding `tunnel`. */
export interface DestinationTunnel {
  readonly type: keyof typeof TUNNEL_TYPE
  /** UDP port of GUE; 0 otherwise. */
  readonly port: number
  /** `IP_VS_TUNNEL_ENCAP_FLAG_*`: 1 = checksum, 2 = remote checksum. */
  readonly flags: number
}

/** How a destination is used. */
export interface DestinationOptions {
  readonly forwarding: Exclude<keyof typeof FORWARDING, 'bypass'>
  /** 0 = no new connections. */
  readonly weight: number
  /** No new connections from so many on, until they are below `lowerThreshold`; 0 = no limit. */
  readonly upperThreshold: number
  readonly lowerThreshold: number
  readonly tunnel?: DestinationTunnel
}

/** Idle times of connections in seconds; 0 in a request leaves one as it is. */
export interface IpvsTimeouts {
  readonly tcpSeconds: number
  readonly tcpFinSeconds: number
  readonly udpSeconds: number
}

/** A service and how it balances. */
export interface WantedService {
  readonly key: ServiceKey
  readonly options: ServiceOptions
}

/** A destination of a service. */
export interface WantedDestination {
  readonly service: ServiceKey
  readonly key: DestinationKey
  readonly options: DestinationOptions
}

/** Adds a service. @throws INVALID_ARGUMENT */
export function newService(family: number, wanted: WantedService): NetlinkRequest {
  return serviceRequest(family, IPVS_CMD.newService, 'add', wanted)
}

/** Replaces a service's options. @throws INVALID_ARGUMENT */
export function setService(family: number, wanted: WantedService): NetlinkRequest {
  return serviceRequest(family, IPVS_CMD.setService, 'set', wanted)
}

/** Removes a service and its destinations. */
export function deleteService(family: number, key: ServiceKey): NetlinkRequest {
  return keyRequest(family, IPVS_CMD.deleteService, { key, operation: 'delete service' })
}

/** Reads one service: `request` answers with one message. */
export function getService(family: number, key: ServiceKey): NetlinkRequest {
  return keyRequest(family, IPVS_CMD.getService, { key, operation: 'get service' })
}

/** Reads all services: for `dump`. */
export function dumpServices(family: number): NetlinkRequest {
  return plainRequest(family, IPVS_CMD.getService, 'list services', NLM_F_DUMP)
}

/** Reads a service's destinations: for `dump`. Empty too when the service does not exist. */
export function dumpDestinations(family: number, key: ServiceKey): NetlinkRequest {
  const request = keyRequest(family, IPVS_CMD.getDestination, {
    key,
    operation: 'list destinations of',
  })
  return { ...request, flags: NLM_F_DUMP }
}

/** Adds a destination. @throws INVALID_ARGUMENT */
export function newDestination(family: number, wanted: WantedDestination): NetlinkRequest {
  return destinationRequest(family, IPVS_CMD.newDestination, 'add', wanted)
}

/** Replaces a destination's options. @throws INVALID_ARGUMENT */
export function setDestination(family: number, wanted: WantedDestination): NetlinkRequest {
  return destinationRequest(family, IPVS_CMD.setDestination, 'set', wanted)
}

/** Removes a destination. */
export function deleteDestination(
  family: number,
  target: Pick<WantedDestination, 'service' | 'key'>,
): NetlinkRequest {
  return {
    operation: `ipvs: delete destination ${destinationText(target)}`,
    type: family,
    flags: 0,
    body: (writer) => {
      genericHeader(writer, IPVS_CMD.deleteDestination, IPVS_VERSION)
      writeServiceKey(writer, target.service)
      writer.nested(CMD_ATTR.destination, () => writeDestinationKey(writer, target.key))
    },
  }
}

/** Sets the counters to zero, of one service or of all. */
export function zeroCounters(family: number, key?: ServiceKey): NetlinkRequest {
  if (key === undefined) return plainRequest(family, IPVS_CMD.zero, 'zero all counters')
  return keyRequest(family, IPVS_CMD.zero, { key, operation: 'zero' })
}

/** Removes everything in the namespace, foreign services too. */
export function flushServices(family: number): NetlinkRequest {
  return plainRequest(family, IPVS_CMD.flush, 'flush')
}

/** Reads the version and the size of the connection table. */
export function getInfo(family: number): NetlinkRequest {
  return plainRequest(family, IPVS_CMD.getInfo, 'get info')
}

/** Reads the timeouts. */
export function getTimeouts(family: number): NetlinkRequest {
  return plainRequest(family, IPVS_CMD.getConfig, 'get timeouts')
}

/** Sets those timeouts that are given. @throws INVALID_ARGUMENT */
export function setTimeouts(family: number, timeouts: Partial<IpvsTimeouts>): NetlinkRequest {
  const values: readonly (readonly [number, number])[] = [
    [CMD_ATTR.timeoutTcp, timeouts.tcpSeconds ?? 0],
    [CMD_ATTR.timeoutTcpFin, timeouts.tcpFinSeconds ?? 0],
    [CMD_ATTR.timeoutUdp, timeouts.udpSeconds ?? 0],
  ]
  for (const [, seconds] of values) checkRange('timeout', seconds, 0x7fff_ffff)
  return {
    ...plainRequest(family, IPVS_CMD.setConfig, 'set timeouts'),
    body: (writer) => {
      genericHeader(writer, IPVS_CMD.setConfig, IPVS_VERSION)
      for (const [type, seconds] of values) if (seconds > 0) writer.u32(type, seconds)
    },
  }
}

/** `tcp 10.96.0.1:80`, `mark 7 ipv6`: one text a key, for maps and messages. */
export function serviceText(key: ServiceKey): string {
  if (key.type === 'mark') return `mark ${key.mark} ${key.family}`
  return `${key.protocol} ${endpointText(key.address, key.port)}`
}

/** `10.32.1.7:8080`, `[fd00::7]:8080`. */
export function endpointText(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}

function destinationText(target: Pick<WantedDestination, 'service' | 'key'>): string {
  const { address, port } = target.key
  return `${endpointText(address, port)} of ${serviceText(target.service)}`
}

function plainRequest(
  family: number,
  command: number,
  operation: string,
  flags = 0,
): NetlinkRequest {
  return {
    operation: `ipvs: ${operation}`,
    type: family,
    flags,
    body: (writer) => genericHeader(writer, command, IPVS_VERSION),
  }
}

function keyRequest(
  family: number,
  command: number,
  about: { readonly key: ServiceKey; readonly operation: string },
): NetlinkRequest {
  return {
    operation: `ipvs: ${about.operation} ${serviceText(about.key)}`,
    type: family,
    flags: 0,
    body: (writer) => {
      genericHeader(writer, command, IPVS_VERSION)
      writeServiceKey(writer, about.key)
    },
  }
}

function serviceRequest(
  family: number,
  command: number,
  verb: string,
  wanted: WantedService,
): NetlinkRequest {
  checkService(wanted)
  return {
    operation: `ipvs: ${verb} service ${serviceText(wanted.key)}`,
    type: family,
    flags: 0,
    body: (writer) => {
      genericHeader(writer, command, IPVS_VERSION)
      writeServiceKey(writer, wanted.key, () => writeServiceOptions(writer, wanted))
    },
  }
}

function destinationRequest(
  family: number,
  command: number,
  verb: string,
  wanted: WantedDestination,
): NetlinkRequest {
  checkDestination(wanted)
  return {
    operation: `ipvs: ${verb} destination ${destinationText(wanted)}`,
    type: family,
    flags: 0,
    body: (writer) => {
      genericHeader(writer, command, IPVS_VERSION)
      writeServiceKey(writer, wanted.service)
      writer.nested(CMD_ATTR.destination, () => {
        writeDestinationKey(writer, wanted.key)
        writeDestinationOptions(writer, wanted.options)
      })
    },
  }
}

function familyOfService(key: ServiceKey): number {
  if (key.type === 'address') return familyOf(key.address)
  return key.family === 'ipv4' ? AF_INET : AF_INET6
}

function writeServiceKey(writer: MessageWriter, key: ServiceKey, more?: () => void): void {
  writer.nested(CMD_ATTR.service, () => {
    writer.u16(SERVICE_ATTR.family, familyOfService(key))
    if (key.type === 'mark') {
      writer.u32(SERVICE_ATTR.mark, key.mark)
    } else {
      writer.u16(SERVICE_ATTR.protocol, PROTOCOL_NUMBER[key.protocol])
      writer.bytesOf(SERVICE_ATTR.address, addressBytes(key.address))
      writer.u16be(SERVICE_ATTR.port, key.port)
    }
    more?.()
  })
}

function writeServiceOptions(writer: MessageWriter, wanted: WantedService): void {
  const { options } = wanted
  const isIpv6 = familyOfService(wanted.key) === AF_INET6
  writer.text(SERVICE_ATTR.scheduler, options.scheduler)
  writer.u32Pair(SERVICE_ATTR.flags, serviceFlags(options), FLAGS_MASK)
  writer.u32(SERVICE_ATTR.timeout, options.persistence?.timeoutSeconds ?? 0)
  const bits = options.persistence?.prefixBits ?? (isIpv6 ? 128 : 32)
  if (isIpv6) writer.u32(SERVICE_ATTR.netmask, bits)
  else writer.u32be(SERVICE_ATTR.netmask, (0xffff_ffff << (32 - bits)) >>> 0)
}

function serviceFlags(options: ServiceOptions): number {
  return (
    (options.persistence === undefined ? 0 : SERVICE_FLAG.persistent) |
    (options.onePacket ? SERVICE_FLAG.onePacket : 0) |
    (options.schedulerFallback ? SERVICE_FLAG.schedulerFallback : 0) |
    (options.schedulerPort ? SERVICE_FLAG.schedulerPort : 0)
  )
}

function writeDestinationKey(writer: MessageWriter, key: DestinationKey): void {
  writer.bytesOf(DESTINATION_ATTR.address, addressBytes(key.address))
  writer.u16be(DESTINATION_ATTR.port, key.port)
  writer.u16(DESTINATION_ATTR.family, familyOf(key.address))
}

function writeDestinationOptions(writer: MessageWriter, options: DestinationOptions): void {
  writer.u32(DESTINATION_ATTR.method, FORWARDING[options.forwarding])
  writer.u32(DESTINATION_ATTR.weight, options.weight)
  writer.u32(DESTINATION_ATTR.upperThreshold, options.upperThreshold)
  writer.u32(DESTINATION_ATTR.lowerThreshold, options.lowerThreshold)
  if (options.tunnel === undefined) return
  writer.u8(DESTINATION_ATTR.tunnelType, TUNNEL_TYPE[options.tunnel.type])
  writer.u16be(DESTINATION_ATTR.tunnelPort, options.tunnel.port)
  writer.u16(DESTINATION_ATTR.tunnelFlags, options.tunnel.flags)
}

function checkService({ key, options }: WantedService): void {
  const subject = `service ${serviceText(key)}`
  const { persistence } = options
  if (key.type === 'mark') checkRange(`${subject}: mark`, key.mark, 0xffff_ffff, 1)
  else checkRange(`${subject}: port`, key.port, 65_535, persistence === undefined ? 1 : 0)
  if (!/^[a-z]{1,15}$/.test(options.scheduler)) {
    throw new SwarmError('INVALID_ARGUMENT', `${subject}: scheduler "${options.scheduler}"`)
  }
  if (persistence === undefined) return
  const bitsMax = familyOfService(key) === AF_INET6 ? 128 : 32
  checkRange(`${subject}: prefix bits`, persistence.prefixBits, bitsMax, 1)
  checkRange(`${subject}: persistence`, persistence.timeoutSeconds, 0x7fff_ffff, 1)
}

function checkDestination(wanted: WantedDestination): void {
  const { key, options } = wanted
  const subject = `destination ${destinationText(wanted)}`
  const keepsPort = wanted.service.type === 'mark' || wanted.service.port === 0
  checkRange(`${subject}: port`, key.port, 65_535, keepsPort ? 0 : 1)
  checkRange(`${subject}: weight`, options.weight, WEIGHT_MAX)
  checkRange(`${subject}: upper threshold`, options.upperThreshold, 0xffff_ffff)
  checkRange(`${subject}: lower threshold`, options.lowerThreshold, options.upperThreshold)
}

function checkRange(what: string, value: number, max: number, min = 0): void {
  if (Number.isInteger(value) && value >= min && value <= max) return
  throw new SwarmError('INVALID_ARGUMENT', `${what}: ${value} is not between ${min} and ${max}`)
}
