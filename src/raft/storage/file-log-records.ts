/**
 * The bytes of the file log. A segment begins with a header; records follow, each at a multiple of
 * `ALIGNMENT_BYTES`; behind the last one the file is zeros.
 *
 *   header: magic (8) · salt (4) · number (8) · CRC-32 of these (4) · zeros to 32
 *   record: magic (4) · CRC-32 of all that follows (4) · length of the content (4) · type (1) ·
 *           zeros (3) · number of the write (8) · content · zeros to the next multiple
 *   append: term, vote, commit (8 each) · first index (8) · count (4) ·
 *           { term (8) · type (1) · length (4) · data } …
 *   others: term, vote, commit, last index, base index, base term (8 each) · configuration
 *   (msgpack)
 *
 * Numbers of 8 bytes are floating point: exact below 2^53, as every number of Raft here is. The CRC
 * starts from the segment's random salt, so nothing that a user writes can pass for a record.
 */
import { crc32 } from 'node:zlib'
import { Packr } from 'msgpackr'
import { at } from '../../base/assert.ts'
import type { ConfState, Entry, EntryType, HardState, Index } from '../core/entry.ts'
import { corrupt } from './log-records.ts'
import type { AppendBatch, LogContents } from './ports.ts'

const SEGMENT_MAGIC = Buffer.from('SKRLOG01')
const SALT_AT = SEGMENT_MAGIC.length
const NUMBER_AT = SALT_AT + 4
const HEADER_CRC_AT = NUMBER_AT + 8
/** Bytes before the first record. */
export const SEGMENT_HEADER_BYTES = 32

/** Marks the beginning of a record, so that one can be found behind damage. */
export const RECORD_MAGIC: Buffer = Buffer.from('rLg1')
/** Where records may begin. */
export const ALIGNMENT_BYTES = 16
const CRC_AT = 4
const LENGTH_AT = 8
const TYPE_AT = 12
const SEQUENCE_AT = 16
const CONTENT_AT = 24
const ENTRIES_AT = CONTENT_AT + 3 * 8
const ENTRIES_HEAD_BYTES = 8 + 4
const ENTRY_HEAD_BYTES = 8 + 1 + 4
const STATE_BYTES = 6 * 8

const ENTRY_TYPES: readonly EntryType[] = ['normal', 'confChange', 'confChangeV2', 'restore']
const RECORD_TYPES = ['append', 'compact', 'reset', 'rotate'] as const

const packr = new Packr({ useRecords: false })
type ConfStateRow = readonly [number[], number[], number[], number[], boolean]

/** What a log knows besides its entries. */
export interface LogState {
  readonly hardState: HardState
  readonly base: LogContents['base']
  readonly lastIndex: Index
}

/** A record as read. `sizeBytes` includes the zeros behind it. */
export type LogRecord = { readonly sequence: number; readonly sizeBytes: number } & (
  | { readonly type: 'append'; readonly hardState: HardState; readonly entries: readonly Entry[] }
  | { readonly type: 'compact' | 'reset' | 'rotate'; readonly state: LogState }
)

/** Who a segment is. */
export interface SegmentHeader {
  /** Start value of the CRC of all its records. */
  readonly salt: number
  /** Position among the segments of the log, from 1. */
  readonly number: number
}

export function encodeSegmentHeader({ salt, number }: SegmentHeader): Buffer {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES)
  SEGMENT_MAGIC.copy(bytes)
  bytes.writeUInt32BE(salt, SALT_AT)
  bytes.writeDoubleBE(number, NUMBER_AT)
  bytes.writeUInt32BE(crc32(bytes.subarray(0, HEADER_CRC_AT)), HEADER_CRC_AT)
  return bytes
}

/** @throws STORAGE_CORRUPT when it is none */
export function decodeSegmentHeader(bytes: Buffer): SegmentHeader {
  const isWhole =
    bytes.length >= SEGMENT_HEADER_BYTES &&
    bytes.subarray(0, SALT_AT).equals(SEGMENT_MAGIC) &&
    crc32(bytes.subarray(0, HEADER_CRC_AT)) === bytes.readUInt32BE(HEADER_CRC_AT)
  if (!isWhole) throw corrupt('the head of a segment is damaged')
  return { salt: bytes.readUInt32BE(SALT_AT), number: bytes.readDoubleBE(NUMBER_AT) }
}

/** Bytes that the record of `entries` takes. */
export function appendRecordBytes(entries: readonly Entry[]): number {
  let size = ENTRIES_AT + ENTRIES_HEAD_BYTES
  for (const { data } of entries) size += ENTRY_HEAD_BYTES + data.length
  return aligned(size)
}

/** Where a record is put together. */
export interface RecordTarget {
  readonly buffer: Buffer
  readonly offset: number
  readonly salt: number
  readonly sequence: number
}

/** Writes an append record; the buffer has room for `appendRecordBytes`. Returns its size. */
export function writeAppendRecord(target: RecordTarget, batch: Required<AppendBatch>): number {
  const { buffer, offset } = target
  writeHardState(buffer, offset + CONTENT_AT, batch.hardState)
  const { entries } = batch
  let cursor = buffer.writeDoubleBE(entries[0]?.index ?? 0, offset + ENTRIES_AT)
  cursor = buffer.writeUInt32BE(entries.length, cursor)
  for (const { term, type, data } of entries) {
    cursor = buffer.writeDoubleBE(term, cursor)
    cursor = buffer.writeUInt8(ENTRY_TYPES.indexOf(type), cursor)
    cursor = buffer.writeUInt32BE(data.length, cursor)
    buffer.set(data, cursor)
    cursor += data.length
  }
  return seal(target, 'append', cursor - offset)
}

/** A record of the log's whole state but its entries. */
export function encodeStateRecord(
  type: 'compact' | 'reset' | 'rotate',
  state: LogState,
  { salt, sequence }: Pick<RecordTarget, 'salt' | 'sequence'>,
): Buffer {
  const { hardState, base, lastIndex } = state
  const { voters, votersOutgoing, learners, learnersNext, autoLeave } = base.conf
  const conf = packr.pack([voters, votersOutgoing, learners, learnersNext, autoLeave])
  const size = CONTENT_AT + STATE_BYTES + conf.length
  const buffer = Buffer.alloc(aligned(size))
  let cursor = writeHardState(buffer, CONTENT_AT, hardState)
  for (const value of [lastIndex, base.index, base.term])
    cursor = buffer.writeDoubleBE(value, cursor)
  buffer.set(conf, cursor)
  seal({ buffer, offset: 0, salt, sequence }, type, size)
  return buffer
}

function writeHardState(buffer: Buffer, offset: number, hardState: HardState): number {
  buffer.writeDoubleBE(hardState.term, offset)
  buffer.writeDoubleBE(hardState.vote, offset + 8)
  return buffer.writeDoubleBE(hardState.commit, offset + 16)
}

/** Head, checksum and the zeros behind a record of `size` bytes; returns its size with them. */
function seal(target: RecordTarget, type: LogRecord['type'], size: number): number {
  const { buffer, offset, salt, sequence } = target
  RECORD_MAGIC.copy(buffer, offset)
  buffer.writeUInt32BE(size - CONTENT_AT, offset + LENGTH_AT)
  buffer.writeUInt32BE(RECORD_TYPES.indexOf(type) * 0x100_0000, offset + TYPE_AT)
  buffer.writeDoubleBE(sequence, offset + SEQUENCE_AT)
  const checksum = crc32(buffer.subarray(offset + LENGTH_AT, offset + size), salt)
  buffer.writeUInt32BE(checksum, offset + CRC_AT)
  buffer.fill(0, offset + size, offset + aligned(size))
  return aligned(size)
}

/** The record at `offset`; `undefined` when there is no whole one. */
export function readRecord(bytes: Buffer, offset: number, salt: number): LogRecord | undefined {
  if (offset + CONTENT_AT > bytes.length) return undefined
  if (!bytes.subarray(offset, offset + CRC_AT).equals(RECORD_MAGIC)) return undefined
  const end = offset + CONTENT_AT + bytes.readUInt32BE(offset + LENGTH_AT)
  if (end > bytes.length) return undefined
  const checksum = crc32(bytes.subarray(offset + LENGTH_AT, end), salt)
  if (checksum !== bytes.readUInt32BE(offset + CRC_AT)) return undefined
  const envelope = {
    sequence: bytes.readDoubleBE(offset + SEQUENCE_AT),
    sizeBytes: aligned(end - offset),
  }
  const type = RECORD_TYPES[bytes.readUInt8(offset + TYPE_AT)]
  if (type === undefined) throw corrupt('a record has a type that is unknown to this version')
  const content = bytes.subarray(offset + CONTENT_AT, end)
  const hardState = readHardState(content)
  if (type === 'append') return { type, ...envelope, hardState, entries: readEntries(content) }
  return { type, ...envelope, state: { hardState, ...readPosition(content) } }
}

function readHardState(content: Buffer): HardState {
  return {
    term: content.readDoubleBE(0),
    vote: content.readDoubleBE(8),
    commit: content.readDoubleBE(16),
  }
}

function readPosition(content: Buffer): Pick<LogState, 'base' | 'lastIndex'> {
  // The CRC-32 in front vouches for the bytes.
  const row = packr.unpack(content.subarray(STATE_BYTES)) as ConfStateRow
  const [voters, votersOutgoing, learners, learnersNext, autoLeave] = row
  const conf: ConfState = { voters, votersOutgoing, learners, learnersNext, autoLeave }
  const base = { index: content.readDoubleBE(32), term: content.readDoubleBE(40), conf }
  return { lastIndex: content.readDoubleBE(24), base }
}

/** Data are copies: the segment that was read is not kept alive by them. */
function readEntries(content: Buffer): readonly Entry[] {
  const first = content.readDoubleBE(ENTRIES_AT - CONTENT_AT)
  const count = content.readUInt32BE(ENTRIES_AT - CONTENT_AT + 8)
  const entries: Entry[] = []
  let offset = ENTRIES_AT - CONTENT_AT + ENTRIES_HEAD_BYTES
  for (let position = 0; position < count; position += 1) {
    const term = content.readDoubleBE(offset)
    const type = at(ENTRY_TYPES, content.readUInt8(offset + 8))
    const start = offset + ENTRY_HEAD_BYTES
    offset = start + content.readUInt32BE(offset + 9)
    const data = new Uint8Array(content.subarray(start, offset))
    entries.push({ index: first + position, term, type, data })
  }
  return entries
}

function aligned(size: number): number {
  return Math.ceil(size / ALIGNMENT_BYTES) * ALIGNMENT_BYTES
}
