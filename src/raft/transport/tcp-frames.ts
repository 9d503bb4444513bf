/**
 * Frames of the TCP transport: length of the body (u32, big-endian), kind (u8), body.
 */
import { SwarmError } from '../../base/errors.ts'

/** What a frame carries. */
export const FRAME = {
  hello: 1,
  messages: 2,
  /** Empty: "I am alive". */
  ping: 3,
  snapshotHeader: 4,
  snapshotChunk: 5,
  snapshotEnd: 6,
  /** The answer to a snapshot: stored, or the reason why not (text). */
  snapshotStored: 7,
  snapshotFailed: 8,
  /** From the receiver, before any content: where it wants that to begin (u64, big-endian). */
  snapshotOffset: 9,
} as const

/** A value of `FRAME`. */
export type FrameKind = number

const LENGTH_BYTES = 4
const HEAD_BYTES = LENGTH_BYTES + 1

/** What precedes a body of `length` bytes. */
export function frameHead(kind: FrameKind, length: number): Uint8Array {
  const head = Buffer.allocUnsafe(HEAD_BYTES)
  head.writeUInt32BE(length)
  head[LENGTH_BYTES] = kind
  return head
}

/** Cuts a byte stream into frames. Holds at most one unfinished frame, within the limit. */
export class FrameReader {
  readonly #limitBytes: number
  readonly #onFrame: (kind: FrameKind, body: Uint8Array) => void
  /** Chunks of the unfinished frame; `#size` is the sum of their lengths. */
  #chunks: Buffer[] = []
  #size = 0
  /** Bytes after which the unfinished frame is whole, as far as its head is known. */
  #wanted = HEAD_BYTES

  constructor(limitBytes: number, onFrame: (kind: FrameKind, body: Uint8Array) => void) {
    this.#limitBytes = limitBytes
    this.#onFrame = onFrame
  }

  /**
   * Takes bytes; calls `onFrame` for each frame that they complete. Bodies share memory with the
   * chunks. @throws RESOURCE_EXHAUSTED above the limit, before anything of the body is held
   */
  push(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.#size += chunk.length
    if (this.#size < this.#wanted) return
    let rest = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks, this.#size)
    this.#chunks = []
    this.#wanted = this.#frameBytes(rest)
    while (rest.length >= this.#wanted) {
      const frame = rest.subarray(0, this.#wanted)
      rest = rest.subarray(this.#wanted)
      this.#wanted = HEAD_BYTES
      this.#onFrame(frame[LENGTH_BYTES] ?? 0, frame.subarray(HEAD_BYTES))
      this.#wanted = this.#frameBytes(rest)
    }
    if (rest.length > 0) this.#chunks.push(rest)
    this.#size = rest.length
  }

  /** Bytes of the frame that `bytes` begin with; of its head when that is not whole. */
  #frameBytes(bytes: Buffer): number {
    if (bytes.length < HEAD_BYTES) return HEAD_BYTES
    const length = bytes.readUInt32BE(0)
    if (length > this.#limitBytes) {
      const message = `raft frame: ${length} bytes announced, ${this.#limitBytes} allowed`
      throw new SwarmError('RESOURCE_EXHAUSTED', message)
    }
    return HEAD_BYTES + length
  }
}
