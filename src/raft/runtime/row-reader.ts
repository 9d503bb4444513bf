/**
 * Reads an array from the network field by field; whatever is not as expected is INVALID_ARGUMENT.
 */
import { SwarmError } from '../../base/errors.ts'

/** A cursor over one untrusted array. */
export class Row {
  readonly #fields: readonly unknown[]
  #next = 0

  constructor(value: unknown) {
    if (!Array.isArray(value)) throw malformed('array')
    this.#fields = value
  }

  /** A whole number from 0 to 2^53 - 1. */
  count(): number {
    const value = this.#take()
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
      throw malformed('whole number')
    }
    return value
  }

  counts(): readonly number[] {
    const row = this.nested()
    return Array.from({ length: row.#fields.length }, () => row.count())
  }

  flag(): boolean {
    const value = this.#take()
    if (typeof value !== 'boolean') throw malformed('flag')
    return value
  }

  bytes(): Uint8Array {
    const value = this.#take()
    if (!(value instanceof Uint8Array)) throw malformed('byte string')
    return value
  }

  optionalBytes(): Uint8Array | undefined {
    const value = this.#fields[this.#next]
    if (value !== null && value !== undefined) return this.bytes()
    this.#next += 1
    return undefined
  }

  text(): string {
    const value = this.#take()
    if (typeof value !== 'string') throw malformed('text')
    return value
  }

  /** The element of `choices` that the number here names. */
  oneOf<T>(choices: readonly T[]): T {
    const choice = choices[this.count()]
    if (choice === undefined) throw malformed('known number')
    return choice
  }

  nested(): Row {
    return new Row(this.#take())
  }

  list<T>(read: (item: Row) => T): T[] {
    const row = this.nested()
    return Array.from({ length: row.#fields.length }, () => read(row.nested()))
  }

  #take(): unknown {
    const value = this.#fields[this.#next]
    this.#next += 1
    return value
  }
}

function malformed(expected: string): SwarmError {
  return new SwarmError('INVALID_ARGUMENT', `raft message: expected a ${expected}`)
}
