/**
 * Configuration changes as entry data. A compact own format, since the core has no dependencies:
 *
 *   version(1) transition(1) count(varint) { type(1) peer(varint) } * count context(rest)
 *
 * Leaving a joint configuration is the empty array: such an entry can never exceed a byte limit, so
 * that a leader can always leave by itself. Varints are little-endian base 128.
 */
import { at } from '../../base/assert.ts'
import { SwarmError } from '../../base/errors.ts'
import type { ConfChange, ConfChangeSingle } from './entry.ts'

const VERSION = 1
const TRANSITIONS = ['auto', 'implicit', 'explicit'] as const
const TYPES = ['addVoter', 'addLearner', 'remove', 'update'] as const
const CONTINUE = 0x80
/** A varint of a safe integer has at most this many bytes. */
const MAX_VARINT_BYTES = 8

/** The change as bytes. */
export function encodeConfChange(change: ConfChange): Uint8Array {
  const { transition, changes, context } = change
  if (transition === 'auto' && changes.length === 0 && context === undefined)
    return new Uint8Array()
  const bytes = [VERSION, TRANSITIONS.indexOf(transition)]
  pushVarint(bytes, changes.length)
  for (const { type, peer } of changes) {
    bytes.push(TYPES.indexOf(type))
    pushVarint(bytes, peer)
  }
  const encoded = new Uint8Array(bytes.length + (context?.length ?? 0))
  encoded.set(bytes)
  if (context !== undefined) encoded.set(context, bytes.length)
  return encoded
}

/**
 * The change that `data` encodes.
 * @throws INVALID_ARGUMENT when it encodes none
 */
export function decodeConfChange(data: Uint8Array): ConfChange {
  if (data.length === 0) return { transition: 'auto', changes: [] }
  const reader = new Reader(data)
  if (reader.byte() !== VERSION) throw malformed('unknown version')
  const transition = reader.choice(TRANSITIONS)
  const count = reader.varint()
  if (count > data.length) throw malformed('more changes than bytes')
  const changes: ConfChangeSingle[] = []
  for (let i = 0; i < count; i += 1) {
    changes.push({ type: reader.choice(TYPES), peer: reader.varint() })
  }
  const context = reader.rest()
  return context.length === 0 ? { transition, changes } : { transition, changes, context }
}

function malformed(reason: string): SwarmError {
  return new SwarmError('INVALID_ARGUMENT', `configuration change: ${reason}`)
}

function pushVarint(bytes: number[], value: number): void {
  let rest = value
  while (rest >= CONTINUE) {
    bytes.push((rest % CONTINUE) + CONTINUE)
    rest = Math.floor(rest / CONTINUE)
  }
  bytes.push(rest)
}

class Reader {
  readonly #data: Uint8Array
  #position = 0

  constructor(data: Uint8Array) {
    this.#data = data
  }

  byte(): number {
    const value = this.#data[this.#position]
    if (value === undefined) throw malformed('cut off')
    this.#position += 1
    return value
  }

  choice<T>(choices: readonly T[]): T {
    const index = this.byte()
    if (index >= choices.length) throw malformed(`unknown kind ${index}`)
    return at(choices as readonly (T & {})[], index)
  }

  varint(): number {
    let value = 0
    let scale = 1
    for (let i = 0; i < MAX_VARINT_BYTES; i += 1) {
      const byte = this.byte()
      value += (byte % CONTINUE) * scale
      if (byte < CONTINUE) {
        if (!Number.isSafeInteger(value)) break
        return value
      }
      scale *= CONTINUE
    }
    throw malformed('number out of range')
  }

  rest(): Uint8Array {
    return this.#data.slice(this.#position)
  }
}
