/** The first frame of every connection: who calls whom, and for what. */
import { Packr } from 'msgpackr'
import { SwarmError } from '../../base/errors.ts'
import type { ServerId } from '../runtime/ports.ts'

const HELLO_VERSION = 1
const LANES = ['bulk', 'urgent', 'snapshot'] as const
const packr = new Packr({ useRecords: false })

/** What a connection carries: entries and their answers, what must not wait, or one snapshot. */
export type Lane = (typeof LANES)[number]

/** Who calls, whom, and for what. */
export interface Hello {
  readonly from: ServerId
  readonly to: ServerId
  readonly lane: Lane
}

export function encodeHello({ from, to, lane }: Hello): Uint8Array {
  return packr.pack([HELLO_VERSION, from, to, lane])
}

/** @throws INVALID_ARGUMENT */
export function decodeHello(bytes: Uint8Array): Hello {
  const fields: unknown = unpack(bytes)
  const [version, from, to, name] = Array.isArray(fields) ? (fields as unknown[]) : []
  const lane = LANES.find((known) => known === name)
  if (version !== HELLO_VERSION || typeof from !== 'string' || typeof to !== 'string') {
    throw new SwarmError('INVALID_ARGUMENT', 'raft hello: is malformed or of another version')
  }
  if (lane === undefined) throw new SwarmError('INVALID_ARGUMENT', 'raft hello: unknown lane')
  return { from, to, lane }
}

function unpack(bytes: Uint8Array): unknown {
  try {
    return packr.unpack(bytes)
  } catch (error) {
    throw new SwarmError('INVALID_ARGUMENT', 'raft hello: is malformed', { cause: error })
  }
}
