/**
 * The crash test's state machine: every value ever written, in order. So a lost, repeated or moved
 * write cannot hide behind a later one.
 */
import { crc32 } from 'node:zlib'
import type { CommittedEntry, StateMachine } from '../../src/raft/index.ts'
import { KEYS } from './protocol.ts'

const VALUE_BYTES = 4
/** Values in one piece of a snapshot. */
const CHUNK_VALUES = 8192

/** The command that writes `value`: the value, and padding that depends on it. */
export function encodeWrite(value: number, sizeBytes: number): Uint8Array {
  const bytes = Buffer.alloc(Math.max(VALUE_BYTES, sizeBytes), value & 0xff)
  bytes.writeUInt32BE(value)
  return bytes
}

/** @throws Error when a byte of it is not what `encodeWrite` wrote */
export function decodeWrite(data: Uint8Array): number {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.length)
  const value = bytes.readUInt32BE(0)
  if (!bytes.equals(encodeWrite(value, bytes.length))) {
    throw new Error(`the command of value ${value} is damaged`)
  }
  return value
}

/** The checksum of a ledger, continued by one value. */
export function digestWith(digest: number, value: number): number {
  const bytes = Buffer.allocUnsafe(VALUE_BYTES)
  bytes.writeUInt32BE(value)
  return crc32(bytes, digest)
}

/** Values in order; a command's response is its position. */
export class Ledger implements StateMachine<number> {
  #values: number[] = []
  #last = new Map<number, number>()
  digest = 0

  get length(): number {
    return this.#values.length
  }

  /** The newest value of `key`, 0 when there is none. */
  lastOf(key: number): number {
    return this.#last.get(key) ?? 0
  }

  from(position: number): readonly number[] {
    return this.#values.slice(position)
  }

  apply(entries: readonly CommittedEntry[]): readonly number[] {
    return entries.map(({ data }) => this.#add(decodeWrite(data)))
  }

  async *snapshot(): AsyncGenerator<Uint8Array> {
    const values = [...this.#values]
    for (let start = 0; start < values.length; start += CHUNK_VALUES) {
      const part = values.slice(start, start + CHUNK_VALUES)
      const bytes = Buffer.alloc(part.length * VALUE_BYTES)
      part.forEach((value, position) => bytes.writeUInt32BE(value, position * VALUE_BYTES))
      yield await Promise.resolve(bytes)
    }
  }

  async restore(source: AsyncIterable<Uint8Array>): Promise<void> {
    const parts: Uint8Array[] = []
    for await (const part of source) parts.push(part)
    const bytes = Buffer.concat(parts)
    this.#values = []
    this.#last = new Map()
    this.digest = 0
    for (let offset = 0; offset < bytes.length; offset += VALUE_BYTES) {
      this.#add(bytes.readUInt32BE(offset))
    }
  }

  #add(value: number): number {
    this.#last.set(value % KEYS, value)
    this.digest = digestWith(this.digest, value)
    return this.#values.push(value) - 1
  }
}
