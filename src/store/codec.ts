/**
 * Bytes of a transaction: one byte of format version, then MessagePack. Both directions refuse what
 * is over the limits, so an entry that was accepted anywhere decodes everywhere; what does not
 * decode (another version, garbage) is refused the same way on every replica.
 */
import { Packr } from 'msgpackr'
import { SwarmError, errorText } from '../base/errors.ts'
import { toPlain } from './plain-value.ts'
import { asTransaction } from './shape.ts'
import { TRANSACTION_BYTES_MAX, type Transaction } from './transaction.ts'

/** First byte of an encoded transaction. */
export const TRANSACTION_FORMAT = 1

const packr = new Packr({ useRecords: false, mapsAsObjects: true, variableMapSize: true })

/** Any plain value as MessagePack. */
export function pack(value: unknown): Uint8Array {
  return Uint8Array.from(packr.pack(toPlain(value)))
}

/** The plain, frozen value in `bytes`. @throws INVALID_ARGUMENT */
export function unpack(bytes: Uint8Array): unknown {
  let value: unknown
  try {
    value = packr.unpack(bytes)
  } catch (error) {
    throw new SwarmError('INVALID_ARGUMENT', `stored value: ${errorText(error)}`, { cause: error })
  }
  return toPlain(value)
}

/**
 * The bytes of `transaction` for a Raft entry.
 * @throws INVALID_ARGUMENT when it is malformed, has more than TRANSACTION_ACTIONS_MAX actions or
 * more than TRANSACTION_BYTES_MAX bytes
 */
export function encodeTransaction(transaction: Transaction): Uint8Array {
  const body = pack(asTransaction(toPlain(transaction)))
  const bytes = new Uint8Array(body.length + 1)
  bytes[0] = TRANSACTION_FORMAT
  bytes.set(body, 1)
  assertSize(bytes)
  return bytes
}

/** The frozen transaction in `bytes`. @throws INVALID_ARGUMENT */
export function decodeTransaction(bytes: Uint8Array): Transaction {
  assertSize(bytes)
  if (bytes[0] !== TRANSACTION_FORMAT) {
    throw new SwarmError('INVALID_ARGUMENT', `transaction: unknown format ${bytes[0] ?? 'none'}`)
  }
  return asTransaction(unpack(bytes.subarray(1)))
}

function assertSize(bytes: Uint8Array): void {
  if (bytes.length > TRANSACTION_BYTES_MAX) {
    throw new SwarmError(
      'INVALID_ARGUMENT',
      `transaction: ${bytes.length} bytes are more than ${TRANSACTION_BYTES_MAX}`,
    )
  }
}
