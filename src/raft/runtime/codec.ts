/**
 * Batches of messages as bytes, for transports: one version byte, then a msgpack array of rows
 * (`message-rows.ts`). One frame holds everything that one turn has for one peer
 * (`reference/raft.md` §6.3: batch end to end).
 */
import { Packr } from 'msgpackr'
import { SwarmError } from '../../base/errors.ts'
import type { SnapshotMetadata } from '../core/entry.ts'
import type { Message } from '../core/message.ts'
import { confFrom, confRow, fromRow, toRow, type WireMessage } from './message-rows.ts'
import type { SnapshotTransfer } from './ports.ts'
import { Row } from './row-reader.ts'

/** First byte of every frame. A node refuses frames of a version that it does not know. */
export const CODEC_VERSION = 1

const packr = new Packr({ useRecords: false })

/** `messages`, all between members, as one frame. */
export function encodeMessages(messages: readonly Message[]): Uint8Array {
  return frame(messages.map(toRow))
}

/** The messages of a frame. Entry data are views into `bytes`. @throws INVALID_ARGUMENT */
export function decodeMessages(bytes: Uint8Array): WireMessage[] {
  const value = unframe(bytes)
  if (!Array.isArray(value)) throw new SwarmError('INVALID_ARGUMENT', 'raft frame: is no list')
  return value.map(fromRow)
}

/** What precedes the content of a snapshot on its way. */
export function encodeTransferHeader(transfer: Omit<SnapshotTransfer, 'source'>): Uint8Array {
  const { message, metadata, membership, sizeBytes } = transfer
  const { index, term, conf } = metadata
  return frame([toRow(message), index, term, confRow(conf), membership, sizeBytes])
}

/** @throws INVALID_ARGUMENT */
export function decodeTransferHeader(bytes: Uint8Array): Omit<SnapshotTransfer, 'source'> {
  const value = unframe(bytes)
  if (!Array.isArray(value)) throw new SwarmError('INVALID_ARGUMENT', 'raft frame: is no list')
  const message = fromRow(value[0])
  const row = new Row(value.slice(1))
  const [index, term] = [row.count(), row.count()]
  const metadata: SnapshotMetadata = { index, term, conf: confFrom(row.nested()) }
  return { message, metadata, membership: row.bytes(), sizeBytes: row.count() }
}

function frame(value: unknown): Uint8Array {
  const body = packr.pack(value)
  const bytes = new Uint8Array(1 + body.length)
  bytes[0] = CODEC_VERSION
  bytes.set(body, 1)
  return bytes
}

function unframe(bytes: Uint8Array): unknown {
  if (bytes[0] !== CODEC_VERSION) {
    throw new SwarmError('INVALID_ARGUMENT', `raft frame: version ${bytes[0]} is unknown`)
  }
  try {
    return packr.unpack(new Uint8Array(bytes.buffer, bytes.byteOffset + 1, bytes.length - 1))
  } catch (error) {
    throw new SwarmError('INVALID_ARGUMENT', 'raft frame: is malformed', { cause: error })
  }
}
