/**
 * Requests about network devices: create (veth, bridge, vxlan, macvlan, ipvlan, vlan, dummy),
 * change, delete, ports of bridges, per-device IPv4 settings. Pure; for a `NetlinkSocket` of
 * protocol `route`. `link-reply.ts` reads the answers.
 *
 * A device is named by its index or by its name. Indexes are the kernel's and end with the device.
 */
import { SwarmError } from '../../base/errors.ts'
import {
  AF_BRIDGE,
  AF_INET,
  AF_INET6,
  AF_UNSPEC,
  addressBytes,
  familyOf,
  macBytes,
} from './address.ts'
import type { MessageWriter, NetlinkRequest } from './message-writer.ts'
import { NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL } from './message.ts'
import {
  BRIDGE,
  BRIDGE_PORT,
  IFF_UP,
  IFLA,
  INET6_ADDRESS_GENERATION,
  INET_CONF,
  INFO,
  IPV4_CONF,
  IPVLAN,
  MACVLAN_MODE,
  RTM,
  VETH_PEER,
  VLAN_ID,
  VXLAN,
} from './route-layout.ts'

/** Longest name of a device in bytes. */
export const LINK_NAME_BYTES_MAX = 15

/** A device: its index, or its name. */
export type LinkRef = number | string

export const MACVLAN_MODES = { private: 1, vepa: 2, bridge: 4, passthru: 8 } as const
export const IPVLAN_MODES = { l2: 0, l3: 1, l3s: 2 } as const
export const IPVLAN_FLAGS = { bridge: 0, private: 1, vepa: 2 } as const
const ADDRESS_GENERATION_NONE = 1

/** What every device can have. */
export interface LinkOptions {
  readonly name: string
  readonly mtu?: number
  readonly macAddress?: string
  /** Index of the bridge to be a port of. */
  readonly master?: number
  /** Default true: the device is up when it is made. */
  readonly up?: boolean
  /** An open file of another namespace, where the device is born. */
  readonly netnsFd?: number
}

/** The other end of a veth. It starts down: the kernel cannot set it up before the pair exists. */
export type VethPeer = Pick<LinkOptions, 'name' | 'mtu' | 'macAddress' | 'netnsFd'>

/** A VXLAN device. */
export interface VxlanOptions {
  readonly id: number
  readonly port: number
  /** Address of the underlay to send from. */
  readonly local?: string
  /** Index of the underlay's device. */
  readonly parent?: number
  /** Whether to learn from packets; default false: entries are ours alone. */
  readonly learning?: boolean
  readonly ttl?: number
  /** Whether outer UDP packets of IPv4 carry a checksum; the kernel's default is yes. */
  readonly udpChecksum?: boolean
}

/** A bridge. */
export interface BridgeOptions {
  readonly multicastSnooping?: boolean
  /** Whether bridged packets of this bridge pass the IP filter. */
  readonly callIptables?: boolean
}

/** A device's kind and what belongs to the kind alone. `parent` is an index. */
export type LinkKind =
  | { readonly kind: 'dummy' }
  | ({ readonly kind: 'bridge' } & BridgeOptions)
  | { readonly kind: 'veth'; readonly peer: VethPeer }
  | ({ readonly kind: 'vxlan' } & VxlanOptions)
  | { readonly kind: 'vlan'; readonly parent: number; readonly id: number }
  | {
      readonly kind: 'macvlan'
      readonly parent: number
      readonly mode: keyof typeof MACVLAN_MODES
    }
  | {
      readonly kind: 'ipvlan'
      readonly parent: number
      readonly mode: keyof typeof IPVLAN_MODES
      readonly flag?: keyof typeof IPVLAN_FLAGS
    }

/** What can be changed on a device. */
export interface LinkChanges {
  readonly up?: boolean
  readonly mtu?: number
  readonly macAddress?: string
  /** Index of a bridge; 0 = leave it. */
  readonly master?: number
  /** Only while the device is down, on older kernels. */
  readonly newName?: string
  /** Moves the device to another namespace. */
  readonly netnsFd?: number
  /** Whether the kernel makes a link-local IPv6 address when the device comes up. */
  readonly linkLocalAddress?: boolean
}

/** What can be changed on a bridge's port. */
export interface BridgePortChanges {
  /** Isolated ports do not reach one another. */
  readonly isolated?: boolean
  readonly hairpin?: boolean
  readonly learning?: boolean
  readonly unicastFlood?: boolean
  readonly neighbourSuppress?: boolean
}

/** Names of settings under `/proc/sys/net/ipv4/conf/DEVICE/`. */
export type Ipv4Conf = Partial<Record<keyof typeof IPV4_CONF, number>>

/** Makes a device. EEXIST when the name is taken. @throws INVALID_ARGUMENT */
export function newLink(options: LinkOptions, kind: LinkKind): NetlinkRequest {
  checkName(options.name)
  if (kind.kind === 'veth') checkName(kind.peer.name)
  return {
    operation: `make ${kind.kind} device "${options.name}"`,
    type: RTM.newLink,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    body: (writer) => {
      writeLink(writer, options)
      if ('parent' in kind && kind.kind !== 'vxlan') writer.u32(IFLA.link, kind.parent)
      writer.nested(IFLA.linkInfo, () => {
        writer.text(INFO.kind, kind.kind)
        writer.nested(INFO.data, () => writeKind(writer, kind))
      })
    },
  }
}

/** Changes a device. ENODEV when it is gone. */
export function setLink(link: LinkRef, changes: LinkChanges): NetlinkRequest {
  if (changes.newName !== undefined) checkName(changes.newName)
  return {
    operation: `change device ${refText(link)}`,
    type: RTM.newLink,
    flags: 0,
    body: (writer) => {
      linkHeader(writer, link, changes.up === undefined ? {} : { up: changes.up })
      if (typeof link === 'string') writer.text(IFLA.name, link)
      else if (changes.newName !== undefined) writer.text(IFLA.name, changes.newName)
      writeCommon(writer, changes)
      if (changes.linkLocalAddress !== undefined) {
        writeAddressGeneration(writer, changes.linkLocalAddress)
      }
    },
  }
}

/** Deletes a device, with its peer if it is a veth. ENODEV when it is gone. */
export function deleteLink(link: LinkRef): NetlinkRequest {
  return {
    operation: `delete device ${refText(link)}`,
    type: RTM.deleteLink,
    flags: 0,
    body: (writer) => writeRef(writer, link),
  }
}

/** Reads one device: `request` answers with one message. ENODEV when it is gone. */
export function getLink(link: LinkRef): NetlinkRequest {
  return {
    operation: `read device ${refText(link)}`,
    type: RTM.getLink,
    flags: 0,
    body: (writer) => writeRef(writer, link),
  }
}

/** Reads all devices, or the ports of a bridge: for `dump`. */
export function dumpLinks(filter: { readonly master?: number } = {}): NetlinkRequest {
  return {
    operation: 'list devices',
    type: RTM.getLink,
    flags: NLM_F_DUMP,
    body: (writer) => {
      linkHeader(writer, 0)
      if (filter.master !== undefined) writer.u32(IFLA.master, filter.master)
    },
  }
}

/** Changes a bridge's port. */
export function setBridgePort(index: number, changes: BridgePortChanges): NetlinkRequest {
  return {
    operation: `change bridge port ${index}`,
    type: RTM.setLink,
    flags: 0,
    body: (writer) => {
      linkHeader(writer, index, { family: AF_BRIDGE })
      writer.nested(IFLA.protocolInfo, () => {
        writeBoolean(writer, BRIDGE_PORT.hairpin, changes.hairpin)
        writeBoolean(writer, BRIDGE_PORT.learning, changes.learning)
        writeBoolean(writer, BRIDGE_PORT.unicastFlood, changes.unicastFlood)
        writeBoolean(writer, BRIDGE_PORT.neighbourSuppress, changes.neighbourSuppress)
        writeBoolean(writer, BRIDGE_PORT.isolated, changes.isolated)
      })
    },
  }
}

/** Sets IPv4 settings of one device, as under `/proc/sys/net/ipv4/conf/`. */
export function setIpv4Conf(index: number, conf: Ipv4Conf): NetlinkRequest {
  return {
    operation: `set IPv4 settings of device ${index}`,
    type: RTM.setLink,
    flags: 0,
    body: (writer) => {
      linkHeader(writer, index)
      writer.nested(IFLA.familySpecific, () => {
        writer.nested(AF_INET, () => {
          writer.nested(INET_CONF, () => {
            for (const [name, value] of Object.entries(conf)) {
              writer.u32(IPV4_CONF[name as keyof typeof IPV4_CONF], value)
            }
          })
        })
      })
    },
  }
}

/** Writes `struct ifinfomsg`. `up` undefined leaves that as it is. */
function linkHeader(
  writer: MessageWriter,
  link: LinkRef,
  { up, family = AF_UNSPEC }: { readonly up?: boolean; readonly family?: number } = {},
): void {
  writer.rawU8(family)
  writer.rawU8(0)
  writer.rawU16(0)
  writer.rawU32(typeof link === 'number' ? link : 0)
  writer.rawU32(up === true ? IFF_UP : 0)
  writer.rawU32(up === undefined ? 0 : IFF_UP)
}

function writeRef(writer: MessageWriter, link: LinkRef): void {
  linkHeader(writer, link)
  if (typeof link === 'string') writer.text(IFLA.name, link)
}

function writeLink(writer: MessageWriter, options: LinkOptions): void {
  linkHeader(writer, 0, { up: options.up ?? true })
  writer.text(IFLA.name, options.name)
  writeCommon(writer, options)
}

function writePeer(writer: MessageWriter, peer: VethPeer): void {
  linkHeader(writer, 0)
  writer.text(IFLA.name, peer.name)
  writeCommon(writer, peer)
}

function writeCommon(
  writer: MessageWriter,
  values: Pick<LinkChanges, 'mtu' | 'macAddress' | 'master' | 'netnsFd'>,
): void {
  if (values.mtu !== undefined) writer.u32(IFLA.mtu, values.mtu)
  if (values.macAddress !== undefined) writer.bytesOf(IFLA.macAddress, macBytes(values.macAddress))
  if (values.master !== undefined) writer.u32(IFLA.master, values.master)
  if (values.netnsFd !== undefined) writer.u32(IFLA.netnsFd, values.netnsFd)
}

function writeAddressGeneration(writer: MessageWriter, isOn: boolean): void {
  writer.nested(IFLA.familySpecific, () => {
    writer.nested(AF_INET6, () => {
      writer.u8(INET6_ADDRESS_GENERATION, isOn ? 0 : ADDRESS_GENERATION_NONE)
    })
  })
}

function writeKind(writer: MessageWriter, kind: LinkKind): void {
  switch (kind.kind) {
    case 'dummy':
      return
    case 'bridge':
      writeBoolean(writer, BRIDGE.multicastSnooping, kind.multicastSnooping)
      writeBoolean(writer, BRIDGE.callIptables, kind.callIptables)
      writeBoolean(writer, BRIDGE.callIp6tables, kind.callIptables)
      return
    case 'veth':
      writer.nested(VETH_PEER, () => writePeer(writer, kind.peer))
      return
    case 'vxlan':
      writeVxlan(writer, kind)
      return
    case 'vlan':
      writer.u16(VLAN_ID, kind.id)
      return
    case 'macvlan':
      writer.u32(MACVLAN_MODE, MACVLAN_MODES[kind.mode])
      return
    case 'ipvlan':
      writer.u16(IPVLAN.mode, IPVLAN_MODES[kind.mode])
      writer.u16(IPVLAN.flags, IPVLAN_FLAGS[kind.flag ?? 'bridge'])
      return
    default:
      kind satisfies never
  }
}

function writeVxlan(writer: MessageWriter, options: VxlanOptions): void {
  writer.u32(VXLAN.id, options.id)
  writer.u16be(VXLAN.port, options.port)
  writer.u8(VXLAN.learning, options.learning === true ? 1 : 0)
  if (options.parent !== undefined) writer.u32(VXLAN.link, options.parent)
  if (options.ttl !== undefined) writer.u8(VXLAN.ttl, options.ttl)
  writeBoolean(writer, VXLAN.udpChecksum, options.udpChecksum)
  if (options.local === undefined) return
  const isIpv4 = familyOf(options.local) === AF_INET
  writer.bytesOf(isIpv4 ? VXLAN.localIpv4 : VXLAN.localIpv6, addressBytes(options.local))
}

function writeBoolean(writer: MessageWriter, type: number, value: boolean | undefined): void {
  if (value !== undefined) writer.u8(type, value ? 1 : 0)
}

function refText(link: LinkRef): string {
  return typeof link === 'number' ? String(link) : `"${link}"`
}

function checkName(name: string): void {
  const isShort = name.length > 0 && Buffer.byteLength(name) <= LINK_NAME_BYTES_MAX
  if (isShort && !/[\s/:\0]/.test(name) && name !== '.' && name !== '..') return
  throw new SwarmError('INVALID_ARGUMENT', `device name "${name}": is empty, too long or malformed`)
}
