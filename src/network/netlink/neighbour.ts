/**
 * Neighbours (address → MAC) and forwarding entries (MAC → tunnel end or bridge port): requests and
 * answers. Pure; for a `NetlinkSocket` of protocol `route`. What we make is permanent.
 */
import {
  AF_BRIDGE,
  AF_INET,
  AF_UNSPEC,
  addressBytes,
  addressText,
  familyOf,
  macBytes,
  macText,
} from './address.ts'
import { Attributes } from './attributes.ts'
import { hostOrder } from './byte-order.ts'
import type { MessageWriter, NetlinkRequest } from './message-writer.ts'
import { NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, headerView } from './message.ts'
import type { NetlinkMessage } from './message.ts'
import { NDA, NTF_MASTER, NTF_PROXY, NTF_SELF, NTF_STICKY } from './route-layout.ts'
import { NUD_NOARP, NUD_PERMANENT, RTM } from './route-layout.ts'

const HEADER_BYTES = 12

/** Who has an address on a link. */
export interface Neighbour {
  /** Index of the device. */
  readonly link: number
  readonly address: string
  readonly macAddress: string
}

/** Which tunnel end has a MAC, on a VXLAN device. */
export interface ForwardingEntry {
  /** Index of the VXLAN device. */
  readonly link: number
  readonly macAddress: string
  /** Address of the tunnel's other end. */
  readonly destination: string
}

/** A neighbour as the kernel has it. */
export interface KernelNeighbour {
  readonly link: number
  readonly address: string
  /** Empty while it is not known. */
  readonly macAddress: string
  readonly isPermanent: boolean
}

/** A forwarding entry as the kernel has it. */
export interface KernelForwardingEntry {
  readonly link: number
  readonly macAddress: string
  /** Undefined on a bridge's port. */
  readonly destination: string | undefined
  readonly isPermanent: boolean
}

/** Adds or replaces a neighbour. */
export function setNeighbour(neighbour: Neighbour): NetlinkRequest {
  return {
    operation: `set neighbour ${neighbour.address} on device ${neighbour.link}`,
    type: RTM.newNeighbour,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    body: (writer) => {
      neighbourHeader(writer, {
        family: familyOf(neighbour.address),
        link: neighbour.link,
        state: NUD_PERMANENT,
        flags: 0,
      })
      writer.bytesOf(NDA.destination, addressBytes(neighbour.address))
      writer.bytesOf(NDA.macAddress, macBytes(neighbour.macAddress))
    },
  }
}

/** Removes a neighbour. ENOENT when it is not there. */
export function deleteNeighbour(neighbour: Omit<Neighbour, 'macAddress'>): NetlinkRequest {
  return {
    operation: `delete neighbour ${neighbour.address} on device ${neighbour.link}`,
    type: RTM.deleteNeighbour,
    flags: 0,
    body: (writer) => {
      const family = familyOf(neighbour.address)
      neighbourHeader(writer, { family, link: neighbour.link, state: 0, flags: 0 })
      writer.bytesOf(NDA.destination, addressBytes(neighbour.address))
    },
  }
}

/** Answers for an address on a link in its owner's place (IPv4: ARP, IPv6: NDP). */
export function setProxyNeighbour(proxy: Omit<Neighbour, 'macAddress'>): NetlinkRequest {
  return {
    operation: `set proxy for ${proxy.address} on device ${proxy.link}`,
    type: RTM.newNeighbour,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    body: (writer) => writeProxy(writer, proxy),
  }
}

/** Ends {@link setProxyNeighbour}. ENOENT when there is none. */
export function deleteProxyNeighbour(proxy: Omit<Neighbour, 'macAddress'>): NetlinkRequest {
  return {
    operation: `delete proxy for ${proxy.address} on device ${proxy.link}`,
    type: RTM.deleteNeighbour,
    flags: 0,
    body: (writer) => writeProxy(writer, proxy),
  }
}

/** Reads the neighbours of a device, or of all: for `dump`. */
export function dumpNeighbours(link?: number): NetlinkRequest {
  return dumpRequest('list neighbours', AF_UNSPEC, link)
}

/** `undefined` for entries of other families. @throws NetlinkError EBADMSG */
export function decodeNeighbour(message: NetlinkMessage): KernelNeighbour | undefined {
  const header = headerView(message, HEADER_BYTES)
  const attributes = new Attributes(header, HEADER_BYTES)
  const address = attributes.bytes(NDA.destination)
  const family = header.getUint8(0)
  if (address === undefined || family === AF_BRIDGE) return undefined
  return {
    link: hostOrder.i32(header, 4),
    address: addressText(family, address),
    macAddress: macText(attributes.bytes(NDA.macAddress) ?? new Uint8Array()),
    isPermanent: (hostOrder.u16(header, 8) & NUD_PERMANENT) !== 0,
  }
}

/** Adds a forwarding entry to a VXLAN device, or replaces the one of this MAC. */
export function setForwardingEntry(entry: ForwardingEntry): NetlinkRequest {
  return {
    operation: `set forwarding of ${entry.macAddress} on device ${entry.link}`,
    type: RTM.newNeighbour,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    body: (writer) => writeForwardingEntry(writer, entry, NUD_PERMANENT | NUD_NOARP),
  }
}

/**
 * Adds the entry of a MAC behind a bridge's port, or moves it there. It stays whatever the bridge
 * sees, and goes with the port.
 */
export function setBridgeEntry(port: number, macAddress: string): NetlinkRequest {
  return {
    operation: `set port ${port} of ${macAddress}`,
    type: RTM.newNeighbour,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    body: (writer) => {
      const flags = NTF_MASTER | NTF_STICKY
      neighbourHeader(writer, { family: AF_BRIDGE, link: port, state: NUD_NOARP, flags })
      writer.bytesOf(NDA.macAddress, macBytes(macAddress))
    },
  }
}

/** Removes a forwarding entry. ENOENT when it is not there. */
export function deleteForwardingEntry(entry: ForwardingEntry): NetlinkRequest {
  return {
    operation: `delete forwarding of ${entry.macAddress} on device ${entry.link}`,
    type: RTM.deleteNeighbour,
    flags: 0,
    body: (writer) => writeForwardingEntry(writer, entry, 0),
  }
}

/** Reads the forwarding entries of a device, or of all: for `dump`. */
export function dumpForwardingEntries(link?: number): NetlinkRequest {
  return dumpRequest('list forwarding entries', AF_BRIDGE, link)
}

/** @throws NetlinkError EBADMSG */
export function decodeForwardingEntry(message: NetlinkMessage): KernelForwardingEntry {
  const header = headerView(message, HEADER_BYTES)
  const attributes = new Attributes(header, HEADER_BYTES)
  const bytes = attributes.bytes(NDA.destination)
  return {
    link: hostOrder.i32(header, 4),
    macAddress: macText(attributes.bytes(NDA.macAddress) ?? new Uint8Array()),
    destination:
      bytes === undefined ? undefined : addressText(bytes.length > 4 ? 10 : AF_INET, bytes),
    isPermanent: (hostOrder.u16(header, 8) & NUD_PERMANENT) !== 0,
  }
}

function writeProxy(writer: MessageWriter, proxy: Omit<Neighbour, 'macAddress'>): void {
  const family = familyOf(proxy.address)
  neighbourHeader(writer, { family, link: proxy.link, state: NUD_PERMANENT, flags: NTF_PROXY })
  writer.bytesOf(NDA.destination, addressBytes(proxy.address))
}

function writeForwardingEntry(writer: MessageWriter, entry: ForwardingEntry, state: number): void {
  neighbourHeader(writer, { family: AF_BRIDGE, link: entry.link, state, flags: NTF_SELF })
  writer.bytesOf(NDA.macAddress, macBytes(entry.macAddress))
  writer.bytesOf(NDA.destination, addressBytes(entry.destination))
}

function dumpRequest(operation: string, family: number, link: number | undefined): NetlinkRequest {
  return {
    operation,
    type: RTM.getNeighbour,
    flags: NLM_F_DUMP,
    body: (writer) => {
      neighbourHeader(writer, { family, link: 0, state: 0, flags: 0 })
      if (link !== undefined) writer.u32(NDA.device, link)
    },
  }
}

interface NeighbourHeader {
  readonly family: number
  readonly link: number
  readonly state: number
  readonly flags: number
}

/** Writes `struct ndmsg`. */
function neighbourHeader(writer: MessageWriter, header: NeighbourHeader): void {
  writer.rawU8(header.family)
  writer.rawU8(0)
  writer.rawU16(0)
  writer.rawU32(header.link)
  writer.rawU16(header.state)
  writer.rawU8(header.flags)
  writer.rawU8(0)
}
