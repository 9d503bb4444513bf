/**
 * Elements of the table's maps as the kernel has them: keys and values in bytes. Pure.
 *
 *     vip_servers   address                         → goto chain
 *     port_servers  protocol, port                  → goto chain
 *     bound_servers address, protocol, port         → goto chain
 *     …_slots       the same and a 32-bit number    → address (vip), or address and port
 *
 * Fields are padded to 4 bytes. What can be read is what can be written: bytes that mean nothing
 * are `EBADMSG`.
 */
import { AF_INET, addressText } from '../netlink/address.ts'
import { hostOrder } from '../netlink/byte-order.ts'
import { PROTOCOL_NUMBER } from '../netlink/ipvs-layout.ts'
import { malformed } from '../netlink/netlink-error.ts'
import type { KernelElement, NftElement } from '../netlink/nft-element.ts'
import { addressField, numberField, portField, protocolField } from '../netlink/nft-field.ts'
import type { Element } from './difference.ts'
import type { Frontend, Target, Transport } from './placement.ts'
import type { FrontendKind, MapName } from './skeleton.ts'

const TRANSPORTS: readonly Transport[] = ['tcp', 'udp', 'sctp']
/** Bytes of a padded field, and of a target with a port. */
const FIELD_BYTES = 4
const TARGET_BYTES = 8
/** Fields of each kind's key. */
const KEY_FIELDS: Readonly<Record<FrontendKind, number>> = { vip: 1, port: 2, bound: 3 }

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
export function decodeElement(map: MapName, { key, data, verdict }: KernelElement): Element {
  const kind = map.slice(0, map.indexOf('_')) as FrontendKind
  const isServer = map.endsWith('_servers')
  const fields = KEY_FIELDS[kind] + (isServer ? 0 : 1)
  // A single field has its own length, and an address has four bytes.
  if (key.length !== fields * FIELD_BYTES) throw malformed(`key of ${key.length} bytes in ${map}`)
  const frontend = decodeFrontend(kind, key)
  if (isServer) {
    // Any other verdict is somebody else's and differs from every one of ours.
    return { type: 'server', frontend, chain: verdict?.chain ?? '' }
  }
  const slot = hostOrder.u32(viewOf(key), key.length - FIELD_BYTES)
  return { type: 'slot', frontend, slot, target: decodeTarget(kind, data ?? new Uint8Array()) }
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

function decodeFrontend(kind: FrontendKind, key: Uint8Array): Frontend {
  if (kind === 'vip') return { kind, address: addressText(AF_INET, key) }
  const start = kind === 'bound' ? FIELD_BYTES : 0
  const number = key[start]
  const protocol = TRANSPORTS.find((name) => PROTOCOL_NUMBER[name] === number)
  if (protocol === undefined) throw malformed(`transport protocol ${number}`)
  const port = viewOf(key).getUint16(start + FIELD_BYTES)
  if (kind === 'port') return { kind, protocol, port }
  return { kind, address: addressText(AF_INET, key), protocol, port }
}

function decodeTarget(kind: FrontendKind, data: Uint8Array): Target {
  const address = addressText(AF_INET, data)
  if (kind === 'vip') return { address, port: 0 }
  if (data.length < TARGET_BYTES) throw malformed(`target of ${data.length} bytes`)
  return { address, port: viewOf(data).getUint16(FIELD_BYTES) }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
