/**
 * Elements of the table's maps as the kernel has them: keys and values in bytes. Pure.
 *
 *     vip_servers   address                         → goto chain
 *     port_servers  protocol, port                  → goto chain
 *     bound_servers address, protocol, port         → goto chain
 *     …_slots       the same and a 32-bit number    → address (vip), or address and port
 *
 * Fields are padded to 4 bytes; an IPv6 address has 16. What can be read is what can be written:
 * bytes that mean nothing are `EBADMSG`.
 */
import { AF_INET, AF_INET6, addressText } from '../netlink/address.ts'
import { hostOrder } from '../netlink/byte-order.ts'
import { PROTOCOL_NUMBER } from '../netlink/ipvs-layout.ts'
import { malformed } from '../netlink/netlink-error.ts'
import type { KernelElement, NftElement } from '../netlink/nft-element.ts'
import { addressField, numberField, portField, protocolField } from '../netlink/nft-field.ts'
import type { Element } from './difference.ts'
import type { Frontend, Target, Transport } from './placement.ts'
import type { AddressFamily } from '../ports.ts'
import type { FrontendKind, MapName } from './skeleton.ts'

const TRANSPORTS: readonly Transport[] = ['tcp', 'udp', 'sctp']
/** Bytes of a padded field, and of an address. */
const FIELD_BYTES = 4
const ADDRESS_BYTES: Readonly<Record<AddressFamily, number>> = { ipv4: 4, ipv6: 16 }
/** Bytes of protocol and port in each kind's key. */
const PORT_BYTES: Readonly<Record<FrontendKind, number>> = { vip: 0, port: 8, bound: 8 }

/** Which map of which table. */
export interface MapPlace {
  readonly map: MapName
  readonly family: AddressFamily
}

/** The map an element is in. */
export function mapOf(element: Element): MapName {
  const { kind } = element.frontend
  return element.type === 'server' ? `${kind}_servers` : `${kind}_slots`
}

/** An element to add; to delete it the key is enough. */
export function encodeElement(element: Element): NftElement {
  const key = keyFields(element.frontend)
  if (element.type === 'server') {
    return { key, data: { verdict: 'goto', chain: element.chain } }
  }
  key.push(numberField(element.slot))
  const { address, port } = element.target
  const isVip = element.frontend.kind === 'vip'
  return { key, data: isVip ? [addressField(address)] : [addressField(address), portField(port)] }
}

/** An element to delete. */
export function encodeKey(element: Element): NftElement {
  const key = keyFields(element.frontend)
  return { key: element.type === 'slot' ? [...key, numberField(element.slot)] : key }
}

/** @throws NetlinkError EBADMSG */
export function decodeElement(place: MapPlace, { key, data, verdict }: KernelElement): Element {
  const { map, family } = place
  const kind = map.slice(0, map.indexOf('_')) as FrontendKind
  const isServer = map.endsWith('_servers')
  const addressBytes = kind === 'port' ? 0 : ADDRESS_BYTES[family]
  const bytes = addressBytes + PORT_BYTES[kind] + (isServer ? 0 : FIELD_BYTES)
  if (key.length !== bytes) throw malformed(`key of ${key.length} bytes in ${map}`)
  const frontend = decodeFrontend(kind, family, key)
  if (isServer) {
    // Any other verdict is somebody else's and differs from every one of ours.
    return { type: 'server', frontend, chain: verdict?.chain ?? '' }
  }
  const slot = hostOrder.u32(viewOf(key), key.length - FIELD_BYTES)
  const target = decodeTarget(kind, family, data ?? new Uint8Array())
  return { type: 'slot', frontend, slot, target }
}

function keyFields(frontend: Frontend): Uint8Array[] {
  switch (frontend.kind) {
    case 'vip':
      return [addressField(frontend.address)]
    case 'port':
      return [padded(protocolField(frontend.protocol)), padded(portField(frontend.port))]
    case 'bound':
      return [
        addressField(frontend.address),
        padded(protocolField(frontend.protocol)),
        padded(portField(frontend.port)),
      ]
    default:
      return frontend satisfies never
  }
}

function padded(field: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(FIELD_BYTES)
  bytes.set(field)
  return bytes
}

function decodeFrontend(kind: FrontendKind, family: AddressFamily, key: Uint8Array): Frontend {
  if (kind === 'vip') return { kind, address: decodeAddress(family, key) }
  const start = kind === 'bound' ? ADDRESS_BYTES[family] : 0
  const number = key[start]
  const protocol = TRANSPORTS.find((name) => PROTOCOL_NUMBER[name] === number)
  if (protocol === undefined) throw malformed(`transport protocol ${number}`)
  const port = viewOf(key).getUint16(start + FIELD_BYTES)
  if (kind === 'port') return { kind, family, protocol, port }
  return { kind, address: decodeAddress(family, key), protocol, port }
}

function decodeTarget(kind: FrontendKind, family: AddressFamily, data: Uint8Array): Target {
  const portAt = ADDRESS_BYTES[family]
  const bytes = portAt + (kind === 'vip' ? 0 : FIELD_BYTES)
  if (data.length < bytes) throw malformed(`target of ${data.length} bytes`)
  const address = decodeAddress(family, data)
  return { address, port: kind === 'vip' ? 0 : viewOf(data).getUint16(portAt) }
}

/** The address that `bytes` begin with. */
function decodeAddress(family: AddressFamily, bytes: Uint8Array): string {
  const own = bytes.subarray(0, ADDRESS_BYTES[family])
  return addressText(family === 'ipv4' ? AF_INET : AF_INET6, own)
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
