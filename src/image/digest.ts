/**
 * Content digests. A digest is the name of a blob: who holds the digest can check the bytes,
 * wherever they come from. Only sha256 is accepted (OCI image-spec, descriptor.md; every producer
 * uses it).
 */
import { createHash } from 'node:crypto'

/** `sha256:` and 64 lower-case hexadecimal digits. */
export type Digest = `sha256:${string}`

const DIGEST_FORM = /^sha256:[0-9a-f]{64}$/
const PREFIX = 'sha256:'

/** Whether `text` is a well-formed sha256 digest; such a text is also a safe file name part. */
export function isDigest(text: unknown): text is Digest {
  return typeof text === 'string' && DIGEST_FORM.test(text)
}

/** The 64 hexadecimal digits of a digest. */
export function digestHex(digest: Digest): string {
  return digest.slice(PREFIX.length)
}

/** The digest with these 64 hexadecimal digits. */
export function digestOfHex(hex: string): Digest {
  return `sha256:${hex}`
}

/** The digest of `bytes`. */
export function sha256(bytes: Uint8Array): Digest {
  return digestOfHex(createHash('sha256').update(bytes).digest('hex'))
}
