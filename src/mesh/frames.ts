/**
 * Frames: u32 big-endian, then the body. libp2p keeps no message boundaries (one send of 1 MiB
 * arrives in pieces), so every protocol of the mesh is framed. A length above the limit of the
 * protocol is refused when its four bytes are there, before anything of the body is stored.
 *
 * The u32: bit 31 = this is a part of a long body, bit 30 = its last part, below = the length.
 * Parts of one body are in order, and whole frames may come between them: so a heartbeat need not
 * wait until eight megabytes have gone over a slow line.
 */
import { SwarmError } from '../base/errors.ts'

/** Bytes before each body. */
export const FRAME_HEADER_BYTES = 4

/** One `send` never takes more, so that other streams get their turn between. */
export const SEND_BYTES_MAX = 64 * 1024

/** Most bytes of one part of a long body. */
export const PART_BYTES_MAX = SEND_BYTES_MAX - FRAME_HEADER_BYTES

const PART = 0x8000_0000
const LAST = 0x4000_0000
const LENGTH_MASK = 0x3fff_ffff

/** `body` as one frame. */
export function encodeFrame(body: Uint8Array): Uint8Array {
  return frameOf(body, 0)
}

/** `body` as one frame, or as several parts when it is long. */
export function encodeParts(body: Uint8Array): Uint8Array[] {
  if (body.length <= PART_BYTES_MAX) return [encodeFrame(body)]
  const parts: Uint8Array[] = []
  for (let offset = 0; offset < body.length; offset += PART_BYTES_MAX) {
    const last = offset + PART_BYTES_MAX >= body.length
    parts.push(frameOf(body.subarray(offset, offset + PART_BYTES_MAX), last ? PART | LAST : PART))
  }
  return parts
}

function frameOf(body: Uint8Array, flags: number): Uint8Array {
  const frame = new Uint8Array(FRAME_HEADER_BYTES + body.length)
  new DataView(frame.buffer).setUint32(0, (flags | body.length) >>> 0)
  frame.set(body, FRAME_HEADER_BYTES)
  return frame
}

/**
 * Cuts a byte stream into frames. Holds at most one unfinished frame and one unfinished long body,
 * each within the limit. Bodies may share memory with
 * the chunks they came in: who keeps one for long copies it.
 */
export class FrameReader {
  readonly #limitBytes: number
  /** Chunks not yet consumed, in order; `#size` is the sum of their lengths. */
  #chunks: Uint8Array[] = []
  #size = 0
  /** Parts of a long body that has not ended; `#partsBytes` is the sum of their lengths. */
  #parts: Uint8Array[] = []
  #partsBytes = 0

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
      const header = this.#nextHeader()
      if (header === undefined || this.#size < FRAME_HEADER_BYTES + header.length) return frames
      this.#take(FRAME_HEADER_BYTES)
      const body = this.#take(header.length)
      const whole = header.isPart ? this.#append(body, header.isLast) : body
      if (whole !== undefined) frames.push(whole)
    }
  }

  /** Bytes of what is unfinished. */
  get bufferedBytes(): number {
    return this.#size + this.#partsBytes
  }

  #nextHeader(): { length: number; isPart: boolean; isLast: boolean } | undefined {
    if (this.#size < FRAME_HEADER_BYTES) return undefined
    const bytes = this.#peekHeader()
    const word = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0)
    const isPart = (word & PART) !== 0
    const length = word & LENGTH_MASK
    const totalBytes = isPart ? this.#partsBytes + length : length
    if (totalBytes > this.#limitBytes) {
      throw new SwarmError(
        'RESOURCE_EXHAUSTED',
        `frame: ${totalBytes} bytes announced, ${this.#limitBytes} allowed`,
      )
    }
    return { length, isPart, isLast: (word & LAST) !== 0 }
  }

  /** Keeps a part; returns the whole body after its last one. */
  #append(part: Uint8Array, isLast: boolean): Uint8Array | undefined {
    this.#parts.push(part)
    this.#partsBytes += part.length
    if (!isLast) return undefined
    const whole = Buffer.concat(this.#parts, this.#partsBytes)
    this.#parts = []
    this.#partsBytes = 0
    return whole
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
