/**
 * The bytes of one snapshot file. Source: own format.
 *
 *   magic (8) · header length (4) · header (sealed msgpack) · content …
 *   · SHA-256 of the content (32) · size (8) · CRC-32 (4) · magic (8)
 *
 * A file without its end is no snapshot; a header or a content that fails its CRC-32 never passes.
 * The digest says which snapshot it is (`SnapshotIdentity`). The first layout had none; its files
 * are read, and their digest is made from the content.
 */
import { crc32 } from 'node:zlib'
import type { FileHandle } from 'node:fs/promises'
import { Packr } from 'msgpackr'
import { SwarmError } from '../../base/errors.ts'
import type { ConfState, SnapshotMetadata } from '../core/entry.ts'
import { seal, unseal } from './log-records.ts'

const MAGIC = new TextEncoder().encode('SKSNAP02')
const MAGIC_WITHOUT_DIGEST = new TextEncoder().encode('SKSNAP01')
const LENGTH_BYTES = 4
const SIZE_BYTES = 8
const PREFIX_BYTES = MAGIC.length + LENGTH_BYTES
const DIGEST_BYTES = 32
const TAIL_BYTES = SIZE_BYTES + LENGTH_BYTES + MAGIC.length
/** Most bytes of a header; membership of thousands of servers is far below. */
const HEADER_BYTES_MAX = 16 * 1024 * 1024
/** Bytes of one read. */
const CHUNK_BYTES = 256 * 1024

const packr = new Packr({ useRecords: false })

/** What stands at both ends of the file. */
export interface SnapshotFrame {
  readonly metadata: SnapshotMetadata
  readonly membership: Uint8Array
  /** Where the content begins. */
  readonly contentStart: number
  readonly sizeBytes: number
  readonly checksum: number
  /** `undefined` in a file of the first layout. */
  readonly digest: string | undefined
}

/** The bytes before the content. */
export function encodeHeader(metadata: SnapshotMetadata, membership: Uint8Array): Uint8Array {
  const { voters, votersOutgoing, learners, learnersNext, autoLeave } = metadata.conf
  const conf = [voters, votersOutgoing, learners, learnersNext, autoLeave]
  const header = seal(packr.pack([metadata.index, metadata.term, conf, membership]))
  const bytes = new Uint8Array(PREFIX_BYTES + header.length)
  bytes.set(MAGIC)
  new DataView(bytes.buffer).setUint32(MAGIC.length, header.length)
  bytes.set(header, PREFIX_BYTES)
  return bytes
}

/** The bytes after the content. */
export function encodeFooter(sizeBytes: number, checksum: number, digest: string): Uint8Array {
  const bytes = new Uint8Array(DIGEST_BYTES + TAIL_BYTES)
  const view = new DataView(bytes.buffer, DIGEST_BYTES)
  bytes.set(Buffer.from(digest, 'hex'))
  view.setBigUint64(0, BigInt(sizeBytes))
  view.setUint32(SIZE_BYTES, checksum)
  bytes.set(MAGIC, bytes.length - MAGIC.length)
  return bytes
}

/** Reads both ends. @throws STORAGE_CORRUPT when they are not those of a finished snapshot */
export async function readFrame(file: FileHandle, name: string): Promise<SnapshotFrame> {
  const fileBytes = (await file.stat()).size
  const prefix = await readExactly(file, 0, PREFIX_BYTES)
  const tail = await readExactly(file, fileBytes - TAIL_BYTES, TAIL_BYTES)
  const digestBytes = isFramed(MAGIC, prefix, tail) ? DIGEST_BYTES : 0
  const known = digestBytes > 0 || isFramed(MAGIC_WITHOUT_DIGEST, prefix, tail)
  if (prefix === undefined || tail === undefined || !known) {
    throw damaged(name, 'is not a finished snapshot')
  }
  const headerBytes = viewOf(prefix).getUint32(MAGIC.length)
  const header =
    headerBytes > HEADER_BYTES_MAX ? undefined : await readExactly(file, PREFIX_BYTES, headerBytes)
  const payload = header === undefined ? undefined : unseal(header)
  if (payload === undefined) throw damaged(name, 'header fails its checksum')
  const contentStart = PREFIX_BYTES + headerBytes
  const sizeBytes = Number(viewOf(tail).getBigUint64(0))
  const contentEnd = contentStart + sizeBytes
  if (contentEnd + digestBytes + TAIL_BYTES !== fileBytes) throw damaged(name, 'has another size')
  const checksum = viewOf(tail).getUint32(SIZE_BYTES)
  const bytes = await readExactly(file, contentEnd, digestBytes)
  const digest = digestBytes === 0 || bytes === undefined ? undefined : hexOf(bytes)
  return { ...decodeHeader(payload), contentStart, sizeBytes, checksum, digest }
}

/**
 * The content from `offset` on. From the beginning on, its checksum is compared before the last
 * chunk is given.
 * @yields chunks in order
 * @throws STORAGE_CORRUPT
 */
export async function* readContent(
  file: FileHandle,
  frame: SnapshotFrame,
  { name, offset = 0 }: { readonly name: string; readonly offset?: number },
): AsyncGenerator<Uint8Array> {
  let position = frame.contentStart + offset
  let remaining = frame.sizeBytes - offset
  let checksum = 0
  while (remaining > 0) {
    const chunk = await readExactly(file, position, Math.min(CHUNK_BYTES, remaining))
    if (chunk === undefined) throw damaged(name, 'ends too early')
    checksum = crc32(chunk, checksum)
    position += chunk.length
    remaining -= chunk.length
    const isBad = remaining === 0 && offset === 0 && checksum !== frame.checksum
    if (isBad) throw damaged(name, 'fails its checksum')
    yield chunk
  }
}

type HeaderRow = readonly [number, number, ConfRow, Uint8Array]
type ConfRow = readonly [number[], number[], number[], number[], boolean]

function decodeHeader(payload: Uint8Array): Pick<SnapshotFrame, 'metadata' | 'membership'> {
  const [index, term, row, membership]: HeaderRow = packr.unpack(payload)
  const [voters, votersOutgoing, learners, learnersNext, autoLeave] = row
  const conf: ConfState = { voters, votersOutgoing, learners, learnersNext, autoLeave }
  return { metadata: { index, term, conf }, membership }
}

function isFramed(
  magic: Uint8Array,
  prefix: Uint8Array | undefined,
  tail: Uint8Array | undefined,
): boolean {
  const end = tail?.subarray(TAIL_BYTES - magic.length)
  return magic.every((byte, position) => prefix?.[position] === byte && end?.[position] === byte)
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

/** `undefined` when the file has no such bytes. */
export async function readExactly(
  file: FileHandle,
  position: number,
  length: number,
): Promise<Uint8Array | undefined> {
  if (position < 0) return undefined
  const bytes = new Uint8Array(length)
  let filled = 0
  while (filled < length) {
    const { bytesRead } = await file.read(bytes, filled, length - filled, position + filled)
    if (bytesRead === 0) return undefined
    filled += bytesRead
  }
  return bytes
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
}

function damaged(name: string, what: string): SwarmError {
  return new SwarmError('STORAGE_CORRUPT', `snapshot ${name}: ${what}`)
}
