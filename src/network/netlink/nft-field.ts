/**
 * Fields of nf_tables' keys and values as bytes. In a tuple each is padded to 4 bytes. Addresses
 * and ports are in network order; marks, and the numbers of `numgen` and `jhash`, in the host's.
 */
import { SwarmError } from '../../base/errors.ts'
import { addressBytes, macBytes } from './address.ts'
import { IS_LITTLE_ENDIAN } from './byte-order.ts'
import { PROTOCOL_NUMBER } from './ipvs-layout.ts'

const INTERFACE_NAME_BYTES = 16

/** `ip daddr`, `ip6 saddr`. @throws INVALID_ARGUMENT */
export function addressField(address: string): Uint8Array {
  return addressBytes(address)
}

/** `meta l4proto`. */
export function protocolField(protocol: keyof typeof PROTOCOL_NUMBER): Uint8Array {
  return Uint8Array.of(PROTOCOL_NUMBER[protocol])
}

/** `th dport`. @throws INVALID_ARGUMENT */
export function portField(port: number): Uint8Array {
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new SwarmError('INVALID_ARGUMENT', `port ${port}: is not between 0 and 65535`)
  }
  return Uint8Array.of(port >> 8, port & 0xff)
}

/** `meta mark`, `numgen`, `jhash`: 32 bits in the host's order. */
export function numberField(value: number): Uint8Array {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value, IS_LITTLE_ENDIAN)
  return bytes
}

/** `ether saddr`. @throws INVALID_ARGUMENT */
export function macField(mac: string): Uint8Array {
  return macBytes(mac)
}

/** `iifname`: the name, filled with zeros. @throws INVALID_ARGUMENT */
export function interfaceField(name: string): Uint8Array {
  const encoded = new TextEncoder().encode(name)
  if (encoded.length >= INTERFACE_NAME_BYTES) {
    throw new SwarmError('INVALID_ARGUMENT', `device name "${name}": is too long`)
  }
  const bytes = new Uint8Array(INTERFACE_NAME_BYTES)
  bytes.set(encoded)
  return bytes
}

function padded(length: number): number {
  return (length + 3) & ~3
}

/** The bytes of a key or value: one field as it is, more of them padded. */
export function fieldsBytes(fields: readonly Uint8Array[]): Uint8Array {
  const [only] = fields
  if (only !== undefined && fields.length === 1) return only
  const bytes = new Uint8Array(fields.reduce((sum, field) => sum + padded(field.length), 0))
  let offset = 0
  for (const field of fields) {
    bytes.set(field, offset)
    offset += padded(field.length)
  }
  return bytes
}
