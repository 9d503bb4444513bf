/**
 * Reads netlink attributes (type, length, value, padded to 4 bytes) as views of the reply. Numbers
 * are in the host's order unless a name says `be`. Bytes that are no attributes give a
 * `NetlinkError` with errno `EBADMSG`, never anything else.
 */
import { IS_LITTLE_ENDIAN as IS_LITTLE } from './byte-order.ts'
import { malformed } from './netlink-error.ts'

const NLA_TYPE_MASK = 0x3fff
const ATTRIBUTE_HEADER_BYTES = 4

const TEXT_DECODER = new TextDecoder()

/** The attributes of a message, or inside an attribute, by type. Of equal types the last counts. */
export class Attributes {
  readonly #view: DataView
  /** Type → offset of the value; its length stands 4 bytes before. */
  readonly #starts = new Map<number, number>()

  /** @throws NetlinkError EBADMSG */
  constructor(view: DataView, offset = 0, end: number = view.byteLength) {
    this.#view = view
    forEachAttribute(view, { offset, end }, (type, start) => this.#starts.set(type, start))
  }

  has(type: number): boolean {
    return this.#starts.has(type)
  }

  u8(type: number): number | undefined {
    const start = this.#find(type, 1)
    return start === undefined ? undefined : this.#view.getUint8(start)
  }
  u16(type: number): number | undefined {
    const start = this.#find(type, 2)
    return start === undefined ? undefined : this.#view.getUint16(start, IS_LITTLE)
  }
  u16be(type: number): number | undefined {
    const start = this.#find(type, 2)
    return start === undefined ? undefined : this.#view.getUint16(start)
  }
  u32(type: number): number | undefined {
    const start = this.#find(type, 4)
    return start === undefined ? undefined : this.#view.getUint32(start, IS_LITTLE)
  }
  u32be(type: number): number | undefined {
    const start = this.#find(type, 4)
    return start === undefined ? undefined : this.#view.getUint32(start)
  }
  /** A 64-bit counter; inexact above 2^53. */
  u64(type: number): number | undefined {
    const start = this.#find(type, 8)
    return start === undefined ? undefined : Number(this.#view.getBigUint64(start, IS_LITTLE))
  }
  u64be(type: number): bigint | undefined {
    const start = this.#find(type, 8)
    return start === undefined ? undefined : this.#view.getBigUint64(start)
  }
  bytes(type: number): Uint8Array | undefined {
    const start = this.#find(type, 0)
    if (start === undefined) return undefined
    return new Uint8Array(this.#view.buffer, this.#view.byteOffset + start, this.#length(start))
  }
  /** Text up to the first zero. */
  text(type: number): string | undefined {
    const bytes = this.bytes(type)
    if (bytes === undefined) return undefined
    const end = bytes.indexOf(0)
    return TEXT_DECODER.decode(end < 0 ? bytes : bytes.subarray(0, end))
  }
  /** The attributes inside one, after `headerBytes` of something else. */
  nested(type: number, headerBytes = 0): Attributes | undefined {
    const start = this.#find(type, headerBytes)
    if (start === undefined) return undefined
    return new Attributes(this.#view, start + headerBytes, start + this.#length(start))
  }
  /** The members of a list: attributes inside `type`, each with attributes inside. */
  list(type: number): Attributes[] {
    const start = this.#find(type, 0)
    if (start === undefined) return []
    const members: Attributes[] = []
    const within = { offset: start, end: start + this.#length(start) }
    forEachAttribute(this.#view, within, (_, from, to) => {
      members.push(new Attributes(this.#view, from, to))
    })
    return members
  }

  #length(start: number): number {
    return this.#view.getUint16(start - 4, IS_LITTLE) - ATTRIBUTE_HEADER_BYTES
  }

  #find(type: number, bytesMin: number): number | undefined {
    const start = this.#starts.get(type)
    if (start !== undefined && this.#length(start) < bytesMin) {
      throw malformed(`attribute ${type} of ${this.#length(start)} bytes`)
    }
    return start
  }
}

function forEachAttribute(
  view: DataView,
  within: { readonly offset: number; readonly end: number },
  visit: (type: number, start: number, end: number) => void,
): void {
  let { offset } = within
  if (offset > within.end) throw malformed(`payload of ${view.byteLength} bytes`)
  while (offset + ATTRIBUTE_HEADER_BYTES <= within.end) {
    const length = view.getUint16(offset, IS_LITTLE)
    if (length < ATTRIBUTE_HEADER_BYTES || length > within.end - offset) {
      throw malformed(`attribute of ${length} bytes`)
    }
    const type = view.getUint16(offset + 2, IS_LITTLE) & NLA_TYPE_MASK
    visit(type, offset + ATTRIBUTE_HEADER_BYTES, offset + length)
    offset += (length + 3) & ~3
  }
}

/** `value`, which a well-formed message has. @throws NetlinkError EBADMSG */
export function required<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw malformed(`${what} is missing`)
  return value
}
