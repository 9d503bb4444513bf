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
import type { SnapshotOffer } from './ports.ts'
import { Row } from './row-reader.ts'

/** First byte of every frame. A node refuses frames of a version that it does not know. */
export const CODEC_VERSION = 1

/** First byte of what precedes a snapshot. */
const TRANSFER_VERSION = 2
/** SHA-256; it becomes part of a file's name. */
const DIGEST = /^[0-9a-f]{64}$/

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
export function encodeTransferHeader(offer: SnapshotOffer): Uint8Array {
  const { message, metadata, membership, sizeBytes, digest } = offer
  const { index, term, conf } = metadata
  const row = [toRow(message), index, term, confRow(conf), membership, sizeBytes, digest]
  return frame(row, TRANSFER_VERSION)
}

/** @throws INVALID_ARGUMENT */
export function decodeTransferHeader(bytes: Uint8Array): SnapshotOffer {
  const value = unframe(bytes, TRANSFER_VERSION)
  if (!Array.isArray(value)) throw new SwarmError('INVALID_ARGUMENT', 'raft frame: is no list')
  const message = fromRow(value[0])
  const row = new Row(value.slice(1))
  const [index, term] = [row.count(), row.count()]
  const metadata: SnapshotMetadata = { index, term, conf: confFrom(row.nested()) }
  const [membership, sizeBytes, digest] = [row.bytes(), row.count(), row.text()]
  if (!DIGEST.test(digest)) throw new SwarmError('INVALID_ARGUMENT', 'raft frame: is no digest')
  return { message, metadata, membership, sizeBytes, digest }
}

function frame(value: unknown, version = CODEC_VERSION): Uint8Array {
  const body = packr.pack(value)
  const bytes = new Uint8Array(1 + body.length)
  bytes[0] = version
  bytes.set(body, 1)
  return bytes
}

function unframe(bytes: Uint8Array, version = CODEC_VERSION): unknown {
  if (bytes[0] !== version) {
    throw new SwarmError('INVALID_ARGUMENT', `raft frame: version ${bytes[0]} is unknown`)
  }
  try {
    return packr.unpack(new Uint8Array(bytes.buffer, bytes.byteOffset + 1, bytes.length - 1))
  } catch (error) {
    throw new SwarmError('INVALID_ARGUMENT', 'raft frame: is malformed', { cause: error })
  }
}
