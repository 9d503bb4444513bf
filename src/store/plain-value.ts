/**
 * Plain values: what may stand in the replicated store. Everything that comes out of the log or a
 * snapshot passes through here once and comes out as a frozen copy of null, booleans, finite
 * numbers, strings, byte arrays, lists and records, so that no replica can hold what another
 * cannot.
 */
import { SwarmError } from '../base/errors.ts'

/** Deepest nesting of a stored value; Docker's specs need about ten. */
export const PLAIN_DEPTH_MAX = 40

/** A record of unknown fields. */
export type PlainRecord = Readonly<Record<string, unknown>>

/** Whether `value` is a record, neither list nor bytes. */
export function isRecord(value: unknown): value is PlainRecord {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    !ArrayBuffer.isView(value)
  )
}

/**
 * A deeply frozen copy of `value` without undefined fields. Byte arrays are copied, but cannot be
 * frozen. @throws INVALID_ARGUMENT for anything that is not plain
 */
export function toPlain(value: unknown, depth = 0): unknown {
  if (depth > PLAIN_DEPTH_MAX) throw refusal(`nested deeper than ${PLAIN_DEPTH_MAX}`)
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value
  if (typeof value === 'number') {
    if (Number.isFinite(value)) return value
    throw refusal('a number is not finite')
  }
  if (value instanceof Uint8Array) return Uint8Array.from(value)
  if (Array.isArray(value)) return Object.freeze(value.map((item) => toPlain(item, depth + 1)))
  if (isRecord(value)) return plainRecord(value, depth)
  throw refusal(`a ${typeof value} cannot be stored`)
}

function plainRecord(value: PlainRecord, depth: number): PlainRecord {
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null) throw refusal('an object has a class')
  const copy: Record<string, unknown> = {}
  for (const [key, field] of Object.entries(value)) {
    if (key === '__proto__') throw refusal('a field is named __proto__')
    if (field !== undefined) copy[key] = toPlain(field, depth + 1)
  }
  return Object.freeze(copy)
}

function refusal(reason: string): SwarmError {
  return new SwarmError('INVALID_ARGUMENT', `stored value: ${reason}`)
}
