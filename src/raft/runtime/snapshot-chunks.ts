/**
 * A snapshot's content on its way: checked chunks, the same over every transport. A transport moves
 * the bytes and need not know where one chunk ends.
 *
 *   offset in the content (8) · length (4) · CRC-32 of both and the data (4) · data
 *
 * What does not fit (another place, too long, a wrong checksum) ends the transfer before any of its
 * bytes is stored; the next attempt fetches it again.
 */
import { crc32 } from 'node:zlib'
import { SwarmError } from '../../base/errors.ts'

/** Most content of one chunk: what a break costs at most. */
export const SNAPSHOT_CHUNK_BYTES_MAX = 256 * 1024

const LENGTH_OFFSET = 8
const CRC_OFFSET = 12
const HEAD_BYTES = 16

/**
 * Chunks of `source`, which begins at `offset` of the content.
 * @yields one chunk at a time, whole
 */
export async function* encodeChunks(
  source: AsyncIterable<Uint8Array>,
  offset: number,
): AsyncGenerator<Uint8Array> {
  let position = offset
  for await (const bytes of source) {
    for (let start = 0; start < bytes.length; start += SNAPSHOT_CHUNK_BYTES_MAX) {
      const data = bytes.subarray(start, start + SNAPSHOT_CHUNK_BYTES_MAX)
      yield encodeChunk(position, data)
      position += data.length
    }
  }
}

/** Content that a chunk of `encodeChunks` carries. */
export function contentBytes(chunk: Uint8Array): number {
  return chunk.length - HEAD_BYTES
}

/**
 * The content of chunks that come in pieces of any size.
 * @yields the data of each chunk; shares memory with the pieces
 * @throws UNAVAILABLE when a chunk does not fit, or the last is not whole
 */
export async function* decodeChunks(
  pieces: AsyncIterable<Uint8Array>,
  range: { readonly offset: number; readonly end: number },
): AsyncGenerator<Uint8Array> {
  const waiting: Uint8Array[] = []
  let waitingBytes = 0
  let position = range.offset
  let wanted = HEAD_BYTES
  for await (const piece of pieces) {
    waiting.push(piece)
    waitingBytes += piece.length
    if (waitingBytes < wanted) continue
    let rest = waiting.length === 1 ? piece : Buffer.concat(waiting, waitingBytes)
    for (;;) {
      wanted = chunkBytes(rest, { position, end: range.end })
      if (rest.length < wanted) break
      const data = checked(rest.subarray(0, wanted))
      rest = rest.subarray(wanted)
      position += data.length
      yield data
    }
    waiting.length = 0
    if (rest.length > 0) waiting.push(rest)
    waitingBytes = rest.length
  }
  if (waitingBytes > 0) throw refused('ends within a chunk')
}

function encodeChunk(position: number, data: Uint8Array): Uint8Array {
  const chunk = Buffer.allocUnsafe(HEAD_BYTES + data.length)
  chunk.writeBigUInt64BE(BigInt(position))
  chunk.writeUInt32BE(data.length, LENGTH_OFFSET)
  chunk.writeUInt32BE(checksum(chunk, data), CRC_OFFSET)
  chunk.set(data, HEAD_BYTES)
  return chunk
}

/** Bytes of the chunk that `bytes` begin with; of its head, when that is not whole. */
function chunkBytes(
  bytes: Uint8Array,
  { position, end }: { readonly position: number; readonly end: number },
): number {
  if (bytes.length < HEAD_BYTES) return HEAD_BYTES
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEAD_BYTES)
  const length = view.getUint32(LENGTH_OFFSET)
  const isHere = view.getBigUint64(0) === BigInt(position)
  if (!isHere || length > SNAPSHOT_CHUNK_BYTES_MAX || position + length > end) {
    throw refused(`has a chunk that is not wanted at ${position}`)
  }
  return HEAD_BYTES + length
}

function checked(chunk: Uint8Array): Uint8Array {
  const data = chunk.subarray(HEAD_BYTES)
  const view = new DataView(chunk.buffer, chunk.byteOffset, HEAD_BYTES)
  if (view.getUint32(CRC_OFFSET) === checksum(chunk, data)) return data
  throw refused(`has a damaged chunk at ${view.getBigUint64(0)}`)
}

function checksum(head: Uint8Array, data: Uint8Array): number {
  return crc32(data, crc32(head.subarray(0, CRC_OFFSET)))
}

function refused(what: string): SwarmError {
  return new SwarmError('UNAVAILABLE', `snapshot: the stream ${what}`)
}
