/** Internet and Ethernet addresses between text and bytes. Text of IPv6 is RFC 5952's. */
import { isIPv4, isIPv6 } from 'node:net'
import { SwarmError } from '../../base/errors.ts'
import { ipv6Text } from '../../base/ipv6-text.ts'
import { malformed } from './netlink-error.ts'

/** Address families, by the kernel's numbers. */
export const AF_UNSPEC = 0
export const AF_INET = 2
export const AF_BRIDGE = 7
export const AF_INET6 = 10

const GROUPS = 8
const DOT = '.'.charCodeAt(0)
const ZERO = '0'.charCodeAt(0)

/** The kernel's number of the family of an address. @throws INVALID_ARGUMENT */
export function familyOf(address: string): number {
  if (isIPv4(address)) return AF_INET
  if (isIPv6(address)) return AF_INET6
  throw new SwarmError('INVALID_ARGUMENT', `address "${address}": is neither IPv4 nor IPv6`)
}

/** 4 or 16 bytes of an address. @throws INVALID_ARGUMENT */
export function addressBytes(address: string): Uint8Array {
  if (familyOf(address) === AF_INET) return quadBytes(address)
  const [head = '', tail] = withoutDottedQuad(address.split('%', 1).join('')).split('::')
  const first = groupsOf(head)
  const last = tail === undefined ? [] : groupsOf(tail)
  const bytes = new Uint8Array(2 * GROUPS)
  writeGroups(bytes, 0, first)
  writeGroups(bytes, 2 * (GROUPS - last.length), last)
  return bytes
}

/** Digit by digit: a large table has tens of thousands of these. */
function quadBytes(address: string): Uint8Array {
  const bytes = new Uint8Array(4)
  let index = 0
  for (let place = 0; place < address.length; place += 1) {
    const code = address.charCodeAt(place)
    if (code === DOT) index += 1
    else bytes[index] = (bytes[index] ?? 0) * 10 + (code - ZERO)
  }
  return bytes
}

/** `::ffff:10.0.0.1` with its last four bytes as two groups. */
function withoutDottedQuad(text: string): string {
  const quadStart = text.lastIndexOf(':') + 1
  const quad = text.slice(quadStart)
  if (!quad.includes('.')) return text
  const [a = 0, b = 0, c = 0, d = 0] = quad.split('.').map(Number)
  return `${text.slice(0, quadStart)}${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`
}

function groupsOf(text: string): readonly number[] {
  return text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16))
}

function writeGroups(bytes: Uint8Array, offset: number, groups: readonly number[]): void {
  for (const [index, group] of groups.entries()) {
    bytes[offset + 2 * index] = group >> 8
    bytes[offset + 2 * index + 1] = group & 0xff
  }
}

/**
 * Text of the first 4 bytes (`AF_INET`) or 16 bytes (`AF_INET6`). @throws EBADMSG when too short
 */
export function addressText(family: number, bytes: Uint8Array): string {
  if (family === AF_INET && bytes.length >= 4) return bytes.subarray(0, 4).join('.')
  if (family !== AF_INET6 || bytes.length < 2 * GROUPS) {
    throw malformed(`address of family ${family} in ${bytes.length} bytes`)
  }
  const groups: number[] = []
  for (let index = 0; index < GROUPS; index += 1) {
    groups.push(at16(bytes, 2 * index))
  }
  return ipv6Text(groups)
}

function at16(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset] ?? 0) << 8) | (bytes[offset + 1] ?? 0)
}

/** An address as {@link addressText} writes it: equal ones are equal texts. @throws as there */
export function canonicalAddress(address: string): string {
  return isIPv4(address) ? address : addressText(AF_INET6, addressBytes(address))
}

/** 6 bytes of `02:aa:00:00:00:01`. @throws INVALID_ARGUMENT */
export function macBytes(mac: string): Uint8Array {
  if (!/^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/i.test(mac)) {
    throw new SwarmError('INVALID_ARGUMENT', `MAC address "${mac}": is not six bytes in hex`)
  }
  return Uint8Array.from(mac.split(':'), (byte) => Number.parseInt(byte, 16))
}

/** Text of a link-layer address of any length. */
export function macText(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':')
}

/** An address with a prefix length. */
export interface Prefix {
  readonly address: string
  readonly bits: number
}

/** Parses `10.32.1.0/24`; without a length it is one address. @throws INVALID_ARGUMENT */
export function parsePrefix(text: string): Prefix {
  const [address = '', bitsText, ...rest] = text.split('/')
  const bitsMax = familyOf(address) === AF_INET ? 32 : 128
  const bits = bitsText === undefined ? bitsMax : Number(bitsText)
  const isDigits = bitsText === undefined || /^\d{1,3}$/.test(bitsText)
  if (!isDigits || bits > bitsMax || rest.length > 0) {
    throw new SwarmError('INVALID_ARGUMENT', `prefix "${text}": is not address/length`)
  }
  return { address, bits }
}
