/**
 * Ed25519 keys as plain bytes. Node's crypto wants DER; for Ed25519 that is a fixed prefix before
 * the 32 bytes (RFC 8410 §4, §7), so seeds and public keys travel and rest as 32 bytes everywhere
 * else.
 */
import { createPrivateKey, createPublicKey, sign, verify, type KeyObject } from 'node:crypto'
import { assert } from '../base/assert.ts'

/** Length of a seed (the private key) and of a public key. */
export const ED25519_KEY_BYTES = 32

const PRIVATE_KEY_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex')
const PUBLIC_KEY_PREFIX = Buffer.from('302a300506032b6570032100', 'hex')

/** A key pair that signs. */
export interface SigningKey {
  /** 32 bytes; the private key. Never logged, never sent. */
  readonly seed: Uint8Array
  /** 32 bytes. */
  readonly publicKey: Uint8Array
  /** A signature of 64 bytes. */
  sign(message: Uint8Array): Uint8Array
}

/** The key pair that grows from `seed` (32 bytes). */
export function signingKey(seed: Uint8Array): SigningKey {
  assert(seed.length === ED25519_KEY_BYTES, `an Ed25519 seed has ${ED25519_KEY_BYTES} bytes`)
  const privateKey = createPrivateKey({
    key: Buffer.concat([PRIVATE_KEY_PREFIX, seed]),
    format: 'der',
    type: 'pkcs8',
  })
  const der = createPublicKey(privateKey).export({ format: 'der', type: 'spki' })
  return {
    seed: Uint8Array.from(seed),
    publicKey: Uint8Array.from(der.subarray(PUBLIC_KEY_PREFIX.length)),
    sign: (message) => new Uint8Array(sign(null, message, privateKey)),
  }
}

/**
 * Whether `signature` is the signature of `publicKey`'s owner over `message`. False on malformed
 * input.
 */
export function verifySignature(
  publicKey: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
): boolean {
  const key = publicKeyObject(publicKey)
  return key !== undefined && verify(null, message, key, signature)
}

function publicKeyObject(publicKey: Uint8Array): KeyObject | undefined {
  if (publicKey.length !== ED25519_KEY_BYTES) return undefined
  return createPublicKey({
    key: Buffer.concat([PUBLIC_KEY_PREFIX, publicKey]),
    format: 'der',
    type: 'spki',
  })
}
