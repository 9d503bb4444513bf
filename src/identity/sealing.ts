/**
 * Sealing: what must not be read by everyone who holds the log or the disk is encrypted under the
 * cluster's data key, which only managers have. AES-256-GCM with a random nonce; the additional
 * data says what the box is for, so that a box cannot be passed off as another.
 *
 * A box: version (1 byte) ‖ nonce (12) ‖ ciphertext ‖ tag (16). Random nonces are safe for 2^32
 * boxes under one key (NIST SP 800-38D §8.3), far above what a cluster ever seals.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto'
import { decode, encode } from 'msgpackr'
import { assert } from '../base/assert.ts'
import { SwarmError } from '../base/errors.ts'
import type { Random } from '../base/random.ts'
import { isRecord } from './fields.ts'
import { readKeyFile, writePrivateFile } from './key-file.ts'
import { decodeOnceSecrets } from './once-secrets.ts'
import type { OnceSecret } from './once-secrets.ts'

/** Length of a data key. */
export const DATA_KEY_BYTES = 32

const VERSION = 1
const NONCE_BYTES = 12
const TAG_BYTES = 16
const OVERHEAD_BYTES = 1 + NONCE_BYTES + TAG_BYTES
const CIPHER = 'aes-256-gcm'
const CLUSTER_SECRETS = 'skein cluster secrets'

/** What only managers may know of their cluster. */
export interface ClusterSecrets {
  /** Seed of the root key, 32 bytes. */
  readonly rootPrivateKey: Uint8Array
  /** Secrets of the two join tokens, 25 base-36 digits each. */
  readonly workerSecret: string
  readonly managerSecret: string
  /** Secrets of one-time tokens, oldest first; at most `ONCE_TOKENS_MAX`. */
  readonly once: readonly OnceSecret[]
}

/** A new data key. */
export function newDataKey(random: Random): Uint8Array {
  return random.bytes(DATA_KEY_BYTES)
}

/** The data key at `path`; undefined on a node that has none. @throws STORAGE_CORRUPT, INTERNAL */
export function readDataKey(path: string): Promise<Uint8Array | undefined> {
  return readKeyFile(path, DATA_KEY_BYTES)
}

/** Stores the data key at `path`, mode 0600, durably. @throws STORAGE_FULL, INTERNAL */
export function writeDataKey(path: string, dataKey: Uint8Array): Promise<void> {
  assert(dataKey.length === DATA_KEY_BYTES, `a data key has ${DATA_KEY_BYTES} bytes`)
  return writePrivateFile(path, dataKey)
}

/** Encrypts `plain` for `purpose`. */
export function seal(
  components: { readonly random: Random },
  dataKey: Uint8Array,
  purpose: string,
  plain: Uint8Array,
): Uint8Array {
  const nonce = components.random.bytes(NONCE_BYTES)
  const cipher = createCipheriv(CIPHER, dataKey, nonce)
  cipher.setAAD(additionalData(purpose))
  const text = [cipher.update(plain), cipher.final()]
  return new Uint8Array(
    Buffer.concat([Uint8Array.of(VERSION), nonce, ...text, cipher.getAuthTag()]),
  )
}

/**
 * Decrypts what {@link seal} made. @throws STORAGE_CORRUPT wrong key, wrong purpose, or changed
 * bytes
 */
export function openSealed(dataKey: Uint8Array, purpose: string, box: Uint8Array): Uint8Array {
  if (box.length < OVERHEAD_BYTES) throw corrupt(purpose, 'too short')
  if (box[0] !== VERSION) throw corrupt(purpose, `unknown version ${box[0]}`)
  const decipher = createDecipheriv(CIPHER, dataKey, box.subarray(1, 1 + NONCE_BYTES))
  decipher.setAAD(additionalData(purpose))
  decipher.setAuthTag(box.subarray(-TAG_BYTES))
  try {
    const text = decipher.update(box.subarray(1 + NONCE_BYTES, -TAG_BYTES))
    return new Uint8Array(Buffer.concat([text, decipher.final()]))
  } catch (error) {
    throw corrupt(purpose, 'wrong key or changed bytes', error)
  }
}

/** The cluster's secrets as they stand in the log. */
export function sealClusterSecrets(
  components: { readonly random: Random },
  dataKey: Uint8Array,
  secrets: ClusterSecrets,
): Uint8Array {
  return seal(components, dataKey, CLUSTER_SECRETS, encode(secrets))
}

/** Reverses {@link sealClusterSecrets}. @throws STORAGE_CORRUPT */
export function openClusterSecrets(dataKey: Uint8Array, box: Uint8Array): ClusterSecrets {
  const value: unknown = decode(openSealed(dataKey, CLUSTER_SECRETS, box))
  const once = isRecord(value) ? decodeOnceSecrets(value['once']) : undefined
  if (
    !isRecord(value) ||
    once === undefined ||
    !(value['rootPrivateKey'] instanceof Uint8Array) ||
    typeof value['workerSecret'] !== 'string' ||
    typeof value['managerSecret'] !== 'string'
  ) {
    throw corrupt(CLUSTER_SECRETS, 'malformed')
  }
  return {
    rootPrivateKey: Uint8Array.from(value['rootPrivateKey']),
    workerSecret: value['workerSecret'],
    managerSecret: value['managerSecret'],
    once,
  }
}

function additionalData(purpose: string): Uint8Array {
  return Buffer.concat([Uint8Array.of(VERSION), Buffer.from(purpose, 'utf8')])
}

function corrupt(purpose: string, reason: string, cause?: unknown): SwarmError {
  return new SwarmError('STORAGE_CORRUPT', `sealed ${purpose}: ${reason}`, { cause })
}
