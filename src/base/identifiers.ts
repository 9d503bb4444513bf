/**
 * Identifiers in Docker's shape: 25 digits of base 36, so that every client's prefixes and columns
 * work (SwarmKit, `identity/randomid.go` gives the same shape).
 */
import type { Random } from './random.ts'

/** Length of an object's identifier in base-36 digits. */
export const IDENTIFIER_DIGITS = 25

/** Bytes of randomness (or of a hash) behind an identifier: 16 bytes fit in 25 digits. */
export const IDENTIFIER_BYTES = 16

/** `bytes` as a base-36 number, left-padded with zeros to `digits`. */
export function base36(bytes: Uint8Array, digits: number): string {
  let value = 0n
  for (const byte of bytes) value = (value << 8n) | BigInt(byte)
  return value.toString(36).padStart(digits, '0')
}

/** A new random identifier of 25 base-36 digits. */
export function newIdentifier(random: Random): string {
  return base36(random.bytes(IDENTIFIER_BYTES), IDENTIFIER_DIGITS)
}
