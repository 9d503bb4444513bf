/**
 * Writes netlink requests: messages and attributes into one growing buffer, without a copy an
 * attribute. Numbers are in the host's order unless a name says `be`.
 */
import { assert } from '../../base/assert.ts'
import { IS_LITTLE_ENDIAN as IS_LITTLE } from './byte-order.ts'
import { HEADER_BYTES, NLM_F_REQUEST } from './message.ts'

const NLA_F_NESTED = 0x8000
const ATTRIBUTE_HEADER_BYTES = 4
/** An attribute's length is 16 bits. */
export const ATTRIBUTE_BYTES_MAX = 0xffff
const INITIAL_BYTES = 4096

const TEXT_ENCODER = new TextEncoder()

/** One message to send. The socket adds the sequence number and, where one is due, the ACK flag. */
export interface NetlinkRequest {
  /** What is asked, as errors begin: `add route 10.0.0.0/8`. */
  readonly operation: string
  readonly type: number
  /** Beyond `NLM_F_REQUEST`, which is always set. */
  readonly flags: number
  /** Writes the family's header and the attributes. */
  readonly body: (writer: MessageWriter) => void
}

/** Writes messages and attributes into one growing buffer. */
export class MessageWriter {
  #bytes = new Uint8Array(INITIAL_BYTES)
  #view = new DataView(this.#bytes.buffer)
  #length = 0

  /** Bytes that were written. */
  get length(): number {
    return this.#length
  }

  /** What was written; valid until the next write. */
  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length)
  }

  /** Forgets what was written and keeps the buffer. */
  clear(): void {
    this.#length = 0
  }

  /** Writes one whole message. */
  message(request: NetlinkRequest, sequence: number, extraFlags = 0): void {
    const start = this.#reserve(HEADER_BYTES)
    this.#view.setUint16(start + 4, request.type, IS_LITTLE)
    this.#view.setUint16(start + 6, NLM_F_REQUEST | request.flags | extraFlags, IS_LITTLE)
    this.#view.setUint32(start + 8, sequence, IS_LITTLE)
    request.body(this)
    this.#view.setUint32(start, this.#length - start, IS_LITTLE)
    this.#pad()
  }

  /** Raw fields of a family's header; the caller knows its layout. */
  rawU8(value: number): void {
    const start = this.#reserve(1)
    this.#view.setUint8(start, value)
  }
  rawU16(value: number): void {
    const start = this.#reserve(2)
    this.#view.setUint16(start, value, IS_LITTLE)
  }
  rawU16be(value: number): void {
    const start = this.#reserve(2)
    this.#view.setUint16(start, value)
  }
  rawU32(value: number): void {
    const start = this.#reserve(4)
    this.#view.setUint32(start, value, IS_LITTLE)
  }

  u8(type: number, value: number): void {
    const start = this.#attribute(type, 1)
    this.#view.setUint8(start, value)
  }
  u16(type: number, value: number): void {
    const start = this.#attribute(type, 2)
    this.#view.setUint16(start, value, IS_LITTLE)
  }
  u16be(type: number, value: number): void {
    const start = this.#attribute(type, 2)
    this.#view.setUint16(start, value)
  }
  u32(type: number, value: number): void {
    const start = this.#attribute(type, 4)
    this.#view.setUint32(start, value, IS_LITTLE)
  }
  u32be(type: number, value: number): void {
    const start = this.#attribute(type, 4)
    this.#view.setUint32(start, value)
  }
  u64be(type: number, value: bigint): void {
    const start = this.#attribute(type, 8)
    this.#view.setBigUint64(start, value)
  }
  u32Pair(type: number, first: number, second: number): void {
    const start = this.#attribute(type, 8)
    this.#view.setUint32(start, first, IS_LITTLE)
    this.#view.setUint32(start + 4, second, IS_LITTLE)
  }
  bytesOf(type: number, value: Uint8Array): void {
    const start = this.#attribute(type, value.length)
    this.#bytes.set(value, start)
  }
  /** Text with its final zero. */
  text(type: number, value: string): void {
    const encoded = TEXT_ENCODER.encode(value)
    const start = this.#attribute(type, encoded.length + 1)
    this.#bytes.set(encoded, start)
  }
  /** An attribute without a value. */
  flag(type: number): void {
    this.#attribute(type, 0)
  }
  /** An attribute that `write` fills with attributes (or a header first). */
  nested(type: number, write: () => void): void {
    const start = this.#reserve(ATTRIBUTE_HEADER_BYTES)
    write()
    this.#setAttributeHeader(start, type | NLA_F_NESTED, this.#length - start)
  }

  /** An attribute with attributes inside, as they were received. */
  nestedBytes(type: number, value: Uint8Array): void {
    this.bytesOf(type | NLA_F_NESTED, value)
  }

  /** Room for an attribute's value, with the header written; the value's offset. */
  #attribute(type: number, valueBytes: number): number {
    const start = this.#reserve(ATTRIBUTE_HEADER_BYTES + valueBytes)
    this.#setAttributeHeader(start, type, ATTRIBUTE_HEADER_BYTES + valueBytes)
    this.#pad()
    return start + ATTRIBUTE_HEADER_BYTES
  }

  #setAttributeHeader(start: number, type: number, bytes: number): void {
    assert(bytes <= ATTRIBUTE_BYTES_MAX, `netlink attribute ${type} has ${bytes} bytes`)
    this.#view.setUint16(start, bytes, IS_LITTLE)
    this.#view.setUint16(start + 2, type, IS_LITTLE)
  }

  #pad(): void {
    const rest = this.#length % 4
    if (rest !== 0) this.#reserve(4 - rest)
  }

  /**
   * `count` zero bytes at the end; their offset. May replace the buffer: take the view after it.
   */
  #reserve(count: number): number {
    const start = this.#length
    const end = start + count
    if (end > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(end, 2 * this.#bytes.length))
      grown.set(this.#bytes.subarray(0, start))
      this.#bytes = grown
      this.#view = new DataView(grown.buffer)
    } else {
      this.#bytes.fill(0, start, end)
    }
    this.#length = end
    return start
  }
}
