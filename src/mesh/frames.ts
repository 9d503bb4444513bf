/**
 * Frames: u32 big-endian length, then the body. libp2p keeps no message boundaries (one send of 1
 * MiB arrives in pieces), so every protocol of the mesh is framed. A length above the limit of the
 * protocol is refused when its four bytes are there, before anything of the body is stored.
 */
import { SwarmError } from '../base/errors.ts'

/** Bytes before each body. */
export const FRAME_HEADER_BYTES = 4

/** One `send` never takes more, so that other streams get their turn between. */
export const SEND_BYTES_MAX = 64 * 1024

/** `body` behind its length. */
export function encodeFrame(body: Uint8Array): Uint8Array {
  const frame = new Uint8Array(FRAME_HEADER_BYTES + body.length)
  new DataView(frame.buffer).setUint32(0, body.length)
  frame.set(body, FRAME_HEADER_BYTES)
  return frame
}

/**
 * Cuts a byte stream into frames. Holds at most one unfinished frame. Bodies may share memory with
 * the chunks they came in: who keeps one for long copies it.
 */
export class FrameReader {
  readonly #limitBytes: number
  /** Chunks not yet consumed, in order; `#size` is the sum of their lengths. */
  #chunks: Uint8Array[] = []
  #size = 0

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes
  }

  /**
   * Takes bytes; returns the frames that they complete. @throws RESOURCE_EXHAUSTED above the limit
   */
  push(chunk: Uint8Array): Uint8Array[] {
    if (chunk.length > 0) this.#chunks.push(chunk)
    this.#size += chunk.length
    const frames: Uint8Array[] = []
    for (;;) {
      const length = this.#nextLength()
      if (length === undefined || this.#size < FRAME_HEADER_BYTES + length) return frames
      this.#take(FRAME_HEADER_BYTES)
      frames.push(this.#take(length))
    }
  }

  /** Bytes of the unfinished frame. */
  get bufferedBytes(): number {
    return this.#size
  }

  #nextLength(): number | undefined {
    if (this.#size < FRAME_HEADER_BYTES) return undefined
    const header = this.#peekHeader()
    const length = new DataView(header.buffer, header.byteOffset).getUint32(0)
    if (length > this.#limitBytes) {
      throw new SwarmError(
        'RESOURCE_EXHAUSTED',
        `frame: ${length} bytes announced, ${this.#limitBytes} allowed`,
      )
    }
    return length
  }

  #peekHeader(): Uint8Array {
    const [first] = this.#chunks
    if (first !== undefined && first.length >= FRAME_HEADER_BYTES) return first
    const joined = this.#joined()
    this.#chunks = [joined]
    return joined
  }

  #take(length: number): Uint8Array {
    let [first] = this.#chunks
    if (first === undefined || first.length < length) first = this.#joined()
    const rest = first.subarray(length)
    this.#chunks = first === this.#chunks[0] ? this.#chunks.slice(1) : []
    if (rest.length > 0) this.#chunks.unshift(rest)
    this.#size -= length
    return first.subarray(0, length)
  }

  #joined(): Uint8Array {
    const joined = new Uint8Array(this.#size)
    let offset = 0
    for (const chunk of this.#chunks) {
      joined.set(chunk, offset)
      offset += chunk.length
    }
    return joined
  }
}
