/**
 * The cluster's root key: made at `swarm init`, known to managers only (sealed in the log), it
 * signs managers' certificates. Its digest is in every join token, so a joiner knows whom to
 * believe before it says anything. Source: swarmkit `ca/certificates.go` (digest in the token), in
 * Skein's own keys.
 */
import { createHash } from 'node:crypto'
import { base36 } from '../base/identifiers.ts'
import type { Random } from '../base/random.ts'
import { ED25519_KEY_BYTES, signingKey, type SigningKey } from './ed25519.ts'

/** SHA-256 needs 49.5 digits of base 36. */
export const ROOT_DIGEST_DIGITS = 50

/** A new root key. */
export function newClusterRoot(random: Random): SigningKey {
  return signingKey(random.bytes(ED25519_KEY_BYTES))
}

/** SHA-256 of the root public key as 50 base-36 digits, left-padded with zeros. */
export function rootDigest(rootPublicKey: Uint8Array): string {
  return base36(createHash('sha256').update(rootPublicKey).digest(), ROOT_DIGEST_DIGITS)
}
