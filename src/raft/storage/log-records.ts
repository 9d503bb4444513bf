/**
 * The bytes of the durable log: three kinds of record, each with its own CRC-32 in front, because
 * LevelDB 1.20 skips damage in its own log silently and exposes no paranoid checks
 * (`reference/raft.md` §5.4).
 *
 * - batch: entries that were appended together; key `1 <first index, 8 bytes big-endian>`
 * - state: hard state, last index and the number of the write; key `0 s`; rewritten by every write
 * - base: where the log starts; key `0 b`; rewritten by compaction and reset
 *
 * Values are msgpack arrays. Invariant: `decode(encode(x))` equals `x`; a damaged record never
 * decodes.
 */
import { crc32 } from 'node:zlib'
import { Packr } from 'msgpackr'
import { SwarmError } from '../../base/errors.ts'
import type { Entry, EntryType, HardState, Index } from '../core/entry.ts'
import type { LogContents } from './ports.ts'

/** Version of the record layout; another one is refused. */
const LAYOUT_VERSION = 1

const CRC_BYTES = 4
const KEY_BYTES = 9
const ENTRY_TYPES: readonly EntryType[] = ['normal', 'confChange', 'confChangeV2', 'restore']

/** Key of the state record. */
export const STATE_KEY: Uint8Array = Uint8Array.of(0, 's'.charCodeAt(0))
/** Key of the base record. */
export const BASE_KEY: Uint8Array = Uint8Array.of(0, 'b'.charCodeAt(0))

/** What every write renews. */
export interface StateRecord {
  readonly hardState: HardState
  readonly lastIndex: Index
  /** Counts writes; never goes back. Tells a lost acknowledged write from one that never was. */
  readonly sequence: number
}

// Rows as packed; typed, not checked again: the CRC-32 in front vouches for the bytes.
type BatchRow = readonly [number, readonly (readonly [number, number, Uint8Array])[]]
type StateRow = readonly [number, number, number, number, number, number]
type BaseRow = readonly [number, number, number, ConfStateRow]
type ConfStateRow = readonly [number[], number[], number[], number[], boolean]

const packr = new Packr({ useRecords: false })

/** Key of the batch that begins with entry `first`. */
export function batchKey(first: Index): Uint8Array {
  const key = new Uint8Array(KEY_BYTES)
  key[0] = 1
  new DataView(key.buffer).setBigUint64(1, BigInt(first))
  return key
}

/** The first index in a batch key, or `undefined` when `key` is another key. */
export function firstIndexOf(key: Uint8Array): Index | undefined {
  if (key.length !== KEY_BYTES || key[0] !== 1) return undefined
  return Number(new DataView(key.buffer, key.byteOffset, KEY_BYTES).getBigUint64(1))
}

/** `payload` behind its CRC-32. */
export function seal(payload: Uint8Array): Uint8Array {
  const record = new Uint8Array(CRC_BYTES + payload.length)
  new DataView(record.buffer).setUint32(0, crc32(payload))
  record.set(payload, CRC_BYTES)
  return record
}

/** The payload of a sealed record, or `undefined` when its CRC-32 does not match. */
export function unseal(record: Uint8Array): Uint8Array | undefined {
  if (record.length < CRC_BYTES) return undefined
  const expected = new DataView(record.buffer, record.byteOffset, CRC_BYTES).getUint32(0)
  const payload = new Uint8Array(
    record.buffer,
    record.byteOffset + CRC_BYTES,
    record.length - CRC_BYTES,
  )
  return crc32(payload) === expected ? payload : undefined
}

/** A batch of contiguous entries, at least one. */
export function encodeBatch(entries: readonly Entry[]): Uint8Array {
  const rows = entries.map(({ term, type, data }) => [term, ENTRY_TYPES.indexOf(type), data])
  return seal(packr.pack([entries[0]?.index ?? 0, rows]))
}

/** The entries of a batch record; `undefined` when it is damaged. */
export function decodeBatch(record: Uint8Array): readonly Entry[] | undefined {
  const payload = unseal(record)
  if (payload === undefined) return undefined
  const [first, rows]: BatchRow = packr.unpack(payload)
  return rows.map(([term, code, data], offset) => ({
    index: first + offset,
    term,
    type: entryType(code),
    data,
  }))
}

function entryType(code: number): EntryType {
  const type = ENTRY_TYPES[code]
  if (type === undefined) throw corrupt(`entry type ${code} is unknown to this version`)
  return type
}

export function encodeState({ hardState, lastIndex, sequence }: StateRecord): Uint8Array {
  const { term, vote, commit } = hardState
  return seal(packr.pack([LAYOUT_VERSION, term, vote, commit, lastIndex, sequence]))
}

/** @throws STORAGE_CORRUPT */
export function decodeState(record: Uint8Array): StateRecord {
  const fields: StateRow = packr.unpack(payloadOf(record, 'state record'))
  const [layout, term, vote, commit, lastIndex, sequence] = fields
  checkLayout(layout)
  return { hardState: { term, vote, commit }, lastIndex, sequence }
}

export function encodeBase({ index, term, conf }: LogContents['base']): Uint8Array {
  const { voters, votersOutgoing, learners, learnersNext, autoLeave } = conf
  const lists = [voters, votersOutgoing, learners, learnersNext, autoLeave]
  return seal(packr.pack([LAYOUT_VERSION, index, term, lists]))
}

/** @throws STORAGE_CORRUPT */
export function decodeBase(record: Uint8Array): LogContents['base'] {
  const fields: BaseRow = packr.unpack(payloadOf(record, 'base record'))
  const [layout, index, term, lists] = fields
  checkLayout(layout)
  const [voters, votersOutgoing, learners, learnersNext, autoLeave] = lists
  return { index, term, conf: { voters, votersOutgoing, learners, learnersNext, autoLeave } }
}

function payloadOf(record: Uint8Array, name: string): Uint8Array {
  const payload = unseal(record)
  if (payload === undefined) throw corrupt(`${name} fails its checksum`)
  return payload
}

function checkLayout(layout: number): void {
  if (layout !== LAYOUT_VERSION) throw corrupt(`layout ${layout} is unknown to this version`)
}

/** Durable data that cannot be trusted. */
export function corrupt(what: string, cause?: unknown): SwarmError {
  return new SwarmError('STORAGE_CORRUPT', `raft log: ${what}`, { cause })
}
