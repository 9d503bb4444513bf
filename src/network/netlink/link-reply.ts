/** Reads network devices, from dumps and from events. */
import { AF_INET, AF_INET6, addressText, macText } from './address.ts'
import { Attributes, required } from './attributes.ts'
import { hostOrder } from './byte-order.ts'
import type { BridgePortChanges, VxlanOptions } from './link.ts'
import { headerView } from './message.ts'
import type { NetlinkMessage } from './message.ts'
import { BRIDGE_PORT, IFF_LOWER_UP, IFF_UP, IFLA, INFO, RTM, VXLAN } from './route-layout.ts'

const HEADER_BYTES = 16

/** Counters of a device since it was made. */
export interface LinkStats {
  readonly rxPackets: number
  readonly txPackets: number
  readonly rxBytes: number
  readonly txBytes: number
  readonly rxErrors: number
  readonly txErrors: number
}

/** A network device. */
export interface Link {
  readonly index: number
  readonly name: string
  /** Whether it was set up by someone. */
  readonly isUp: boolean
  /** Whether it can carry packets. */
  readonly isRunning: boolean
  readonly mtu: number
  /** Empty for devices without one. */
  readonly macAddress: string
  /** `veth`, `bridge`, …; undefined for hardware and the loopback. */
  readonly kind: string | undefined
  /** Index of the bridge it is a port of. */
  readonly master: number | undefined
  /** Index of the device below, or of a veth's peer, in whatever namespace that is. */
  readonly parent: number | undefined
  readonly vxlan?: VxlanOptions
  readonly bridgePort?: Required<BridgePortChanges>
  readonly stats?: LinkStats
}

/** Whether the device is gone: events tell both. */
export function isLinkGone(message: NetlinkMessage): boolean {
  return message.type === RTM.deleteLink
}

/** @throws NetlinkError EBADMSG */
export function decodeLink(message: NetlinkMessage): Link {
  const header = headerView(message, HEADER_BYTES)
  const attributes = new Attributes(header, HEADER_BYTES)
  const info = attributes.nested(IFLA.linkInfo)
  const flags = hostOrder.u32(header, 8)
  const kind = info?.text(INFO.kind)
  const data = info?.nested(INFO.data)
  const port = info?.text(INFO.portKind) === 'bridge' ? info.nested(INFO.portData) : undefined
  const stats = attributes.bytes(IFLA.stats64)
  return {
    index: hostOrder.i32(header, 4),
    name: required(attributes.text(IFLA.name), 'device name'),
    isUp: (flags & IFF_UP) !== 0,
    isRunning: (flags & IFF_LOWER_UP) !== 0,
    mtu: attributes.u32(IFLA.mtu) ?? 0,
    macAddress: macText(attributes.bytes(IFLA.macAddress) ?? new Uint8Array()),
    kind,
    master: attributes.u32(IFLA.master),
    parent: attributes.u32(IFLA.link),
    ...(kind === 'vxlan' && data !== undefined ? { vxlan: decodeVxlan(data) } : {}),
    ...(port === undefined ? {} : { bridgePort: decodeBridgePort(port) }),
    ...(stats === undefined ? {} : { stats: decodeStats(stats) }),
  }
}

function decodeVxlan(data: Attributes): VxlanOptions {
  const ipv4 = data.bytes(VXLAN.localIpv4)
  const ipv6 = data.bytes(VXLAN.localIpv6)
  const parent = data.u32(VXLAN.link)
  const local =
    ipv4 === undefined ? ipv6 && addressText(AF_INET6, ipv6) : addressText(AF_INET, ipv4)
  return {
    id: required(data.u32(VXLAN.id), 'vxlan id'),
    port: data.u16be(VXLAN.port) ?? 0,
    learning: data.u8(VXLAN.learning) === 1,
    ttl: data.u8(VXLAN.ttl) ?? 0,
    udpChecksum: data.u8(VXLAN.udpChecksum) === 1,
    ...(local === undefined ? {} : { local }),
    ...(parent === undefined ? {} : { parent }),
  }
}

function decodeBridgePort(port: Attributes): Required<BridgePortChanges> {
  return {
    isolated: port.u8(BRIDGE_PORT.isolated) === 1,
    hairpin: port.u8(BRIDGE_PORT.hairpin) === 1,
    learning: port.u8(BRIDGE_PORT.learning) === 1,
    unicastFlood: port.u8(BRIDGE_PORT.unicastFlood) === 1,
    neighbourSuppress: port.u8(BRIDGE_PORT.neighbourSuppress) === 1,
  }
}

/** `struct rtnl_link_stats64` begins with these, 64 bits each. */
function decodeStats(bytes: Uint8Array): LinkStats {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const at = (index: number): number =>
    8 * index + 8 <= view.byteLength ? hostOrder.u64(view, 8 * index) : 0
  return {
    rxPackets: at(0),
    txPackets: at(1),
    rxBytes: at(2),
    txBytes: at(3),
    rxErrors: at(4),
    txErrors: at(5),
  }
}
