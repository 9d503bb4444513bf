/**
 * One tar header block, and the PAX records before it, decoded.
 *
 * Invariants: names are *byte strings* (one character for each byte, "latin1"), because a file name
 * need not be UTF-8; PAX values stay bytes, because capabilities are binary; every number is
 * checked to be a safe non-negative integer. Everything malformed is refused with INVALID_ARGUMENT.
 * Sources: POSIX.1-2017 pax, GNU tar `tar.h`; where tars disagree, Go's archive/tar (that is what
 * Docker unpacks with).
 */
import { SwarmError } from '../base/errors.ts'

/** Size of a tar block in bytes. */
export const BLOCK_BYTES = 512

/** What an entry makes. */
export type TarEntryType =
  | 'file'
  | 'directory'
  | 'symlink'
  | 'hardlink'
  | 'characterDevice'
  | 'blockDevice'
  | 'fifo'

/** One member of an archive. */
export interface TarEntry {
  readonly type: TarEntryType
  /** Byte string, as written in the archive: not normalised, not trusted. */
  readonly path: string
  /** Byte string; empty unless a symbolic or hard link. */
  readonly linkPath: string
  /** Bytes of content; 0 for everything but files. */
  readonly sizeBytes: number
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Seconds since 1970, with fraction. */
  readonly modifiedSeconds: number
  readonly major: number
  readonly minor: number
  /** Extended attributes (`SCHILY.xattr.*` records), values as bytes. */
  readonly xattrs: ReadonlyMap<string, Uint8Array>
}

/** The records of one PAX header: keyword → value. */
export type PaxRecords = ReadonlyMap<string, Uint8Array>

const TYPES: Readonly<Record<string, TarEntryType>> = {
  '\0': 'file',
  '0': 'file',
  '7': 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'characterDevice',
  '4': 'blockDevice',
  '5': 'directory',
  '6': 'fifo',
}

const MODE_MASK = 0o7777
const XATTR_KEYWORD = 'SCHILY.xattr.'
const SPARSE_KEYWORD = 'GNU.sparse.'
/** Largest user and group id that the kernel knows. */
const MAX_ID = 0xffff_fffe
/** Latest time that is taken over (year 2514); later ones are cut to it. */
const MAX_SECONDS = 2 ** 34

const FIELDS = {
  name: [0, 100],
  mode: [100, 108],
  uid: [108, 116],
  gid: [116, 124],
  size: [124, 136],
  time: [136, 148],
  checksum: [148, 156],
  link: [157, 257],
  major: [329, 337],
  minor: [337, 345],
  prefix: [345, 500],
} as const satisfies Record<string, readonly [number, number]>

/** The error for a malformed archive. */
export function badTar(what: string): SwarmError {
  return new SwarmError('INVALID_ARGUMENT', `tar: ${what}`)
}

/** The type flag of a header block. */
export function typeFlag(block: Uint8Array): string {
  return String.fromCharCode(block[156] ?? 0)
}

/** The size field of a header block, for headers that precede the real one. */
export function rawSize(block: Uint8Array): number {
  return number(block, FIELDS.size, 'size')
}

/** @throws INVALID_ARGUMENT when the block's checksum is wrong */
export function checkChecksum(block: Uint8Array): void {
  const [start, end] = FIELDS.checksum
  let sum = (end - start) * 0x20
  for (let index = 0; index < BLOCK_BYTES; index++) {
    if (index < start || index >= end) sum += block[index] ?? 0
  }
  if (sum !== number(block, FIELDS.checksum, 'checksum')) throw badTar('header checksum is wrong')
}

/** What came before a header: a PAX header, GNU long names. */
export interface HeaderPrefix {
  readonly pax: PaxRecords
  readonly longPath?: string
  readonly longLink?: string
}

/** Decodes a header block with what preceded it. @throws INVALID_ARGUMENT */
export function decodeHeader(block: Uint8Array, before: HeaderPrefix): TarEntry {
  const { pax } = before
  const path = text(pax, 'path') ?? before.longPath ?? headerPath(block)
  const type = entryType(typeFlag(block), path)
  refuseSparse(pax)
  return {
    type,
    path: withoutNul(path),
    linkPath: type === 'symlink' || type === 'hardlink' ? linkPathOf(block, before) : '',
    sizeBytes: type === 'file' ? (decimal(pax, 'size') ?? rawSize(block)) : 0,
    mode: number(block, FIELDS.mode, 'mode') & MODE_MASK,
    uid: identifier(decimal(pax, 'uid') ?? number(block, FIELDS.uid, 'uid')),
    gid: identifier(decimal(pax, 'gid') ?? number(block, FIELDS.gid, 'gid')),
    modifiedSeconds: modifiedSeconds(block, pax),
    major: number(block, FIELDS.major, 'major'),
    minor: number(block, FIELDS.minor, 'minor'),
    xattrs: extendedAttributes(pax),
  }
}

function entryType(flag: string, path: string): TarEntryType {
  const type = TYPES[flag]
  if (type === undefined) throw badTar(`entry type ${JSON.stringify(flag)} is not supported`)
  // Before ustar a directory was a file with a slash at the end.
  return type === 'file' && flag !== '7' && path.endsWith('/') ? 'directory' : type
}

function linkPathOf(block: Uint8Array, before: HeaderPrefix): string {
  return withoutNul(text(before.pax, 'linkpath') ?? before.longLink ?? cString(block, FIELDS.link))
}

function withoutNul(path: string): string {
  if (path.includes('\0')) throw badTar('a name contains a NUL byte')
  return path
}

/** Decodes the body of a PAX header: `length keyword=value\n` records. @throws INVALID_ARGUMENT */
export function decodePax(body: Uint8Array): PaxRecords {
  const records = new Map<string, Uint8Array>()
  let offset = 0
  while (offset < body.length) {
    const space = body.indexOf(0x20, offset)
    const digits = space === -1 ? '' : latin1(body.subarray(offset, space))
    const length = /^[0-9]{1,10}$/.test(digits) ? Number(digits) : 0
    const end = offset + length
    const equals = body.indexOf(0x3d, space + 1)
    const whole = end <= body.length && body[end - 1] === 0x0a && equals > space && equals < end
    if (length === 0 || !whole) throw badTar('PAX header is malformed')
    records.set(latin1(body.subarray(space + 1, equals)), body.slice(equals + 1, end - 1))
    offset = end
  }
  return records
}

/** Bytes up to the first NUL, as a byte string. */
export function untilNul(bytes: Uint8Array): string {
  const end = bytes.indexOf(0)
  return latin1(end === -1 ? bytes : bytes.subarray(0, end))
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}

function cString(block: Uint8Array, [start, end]: readonly [number, number]): string {
  return untilNul(block.subarray(start, end))
}

function headerPath(block: Uint8Array): string {
  const name = cString(block, FIELDS.name)
  if (latin1(block.subarray(257, 263)) !== 'ustar\0') return name
  const [start, end] = FIELDS.prefix
  const isStar = latin1(block.subarray(508, 512)) === 'tar\0'
  const prefix = untilNul(block.subarray(start, isStar ? start + 131 : end))
  return prefix === '' ? name : `${prefix}/${name}`
}

/** Octal digits, or base 256 when the first bit is set (GNU). */
function number(block: Uint8Array, field: readonly [number, number], what: string): number {
  const bytes = block.subarray(field[0], field[1])
  const first = bytes[0] ?? 0
  if ((first & 0x80) !== 0) return base256(bytes, what)
  const digits = latin1(bytes)
    .replace(/[\0 ]+$/, '')
    .replace(/^[\0 ]+/, '')
  if (digits === '') return 0
  if (!/^[0-7]+$/.test(digits)) throw badTar(`${what} field is malformed`)
  return Number.parseInt(digits, 8)
}

function base256(bytes: Uint8Array, what: string): number {
  const isNegative = ((bytes[0] ?? 0) & 0x40) !== 0
  if (isNegative && what === 'time') return 0
  let value = BigInt((bytes[0] ?? 0) & 0x3f)
  for (const byte of bytes.subarray(1)) value = (value << 8n) | BigInt(byte)
  if (isNegative || value > BigInt(Number.MAX_SAFE_INTEGER)) throw badTar(`${what} is out of range`)
  return Number(value)
}

function text(pax: PaxRecords, keyword: string): string | undefined {
  const value = pax.get(keyword)
  return value === undefined || value.length === 0 ? undefined : latin1(value)
}

function decimal(pax: PaxRecords, keyword: string): number | undefined {
  const digits = text(pax, keyword)
  if (digits === undefined) return undefined
  const value = Number(digits)
  if (!/^[0-9]+$/.test(digits) || !Number.isSafeInteger(value)) {
    throw badTar(`PAX ${keyword} is malformed`)
  }
  return value
}

function identifier(value: number): number {
  if (value > MAX_ID) throw badTar('user or group id is out of range')
  return value
}

function modifiedSeconds(block: Uint8Array, pax: PaxRecords): number {
  const digits = text(pax, 'mtime')
  const seconds = digits === undefined ? number(block, FIELDS.time, 'time') : Number(digits)
  if (!Number.isFinite(seconds)) throw badTar('PAX mtime is malformed')
  return Math.min(Math.max(seconds, 0), MAX_SECONDS)
}

function extendedAttributes(pax: PaxRecords): Map<string, Uint8Array> {
  const attributes = new Map<string, Uint8Array>()
  for (const [keyword, value] of pax) {
    if (!keyword.startsWith(XATTR_KEYWORD)) continue
    attributes.set(keyword.slice(XATTR_KEYWORD.length), value)
  }
  return attributes
}

function refuseSparse(pax: PaxRecords): void {
  for (const keyword of pax.keys()) {
    if (keyword.startsWith(SPARSE_KEYWORD)) throw badTar('sparse files are not supported')
  }
}
