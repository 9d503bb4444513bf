/**
 * What nodes ask each other about images: three methods, their bodies decoded at the border.
 *
 * - `image.resolve` (request): which digest does this reference mean on that node?
 * - `image.manifest` (request): one index, manifest or config by digest, as bytes.
 * - `image.blob` (download): the bytes of one blob from an offset on.
 *
 * Nothing here is trusted: whoever asked checks digests. A later design (chunks instead of whole
 * blobs) adds methods and leaves these.
 */
import { z } from 'zod'
import { SwarmError } from '../base/errors.ts'
import { isDigest } from './digest.ts'
import type { Digest } from './digest.ts'

/** Names of the methods on the mesh. */
export const METHODS = {
  resolve: 'image.resolve',
  manifest: 'image.manifest',
  blob: 'image.blob',
} as const

/**
 * Largest document in an answer: answers share a lane with everything that must not wait, and have
 * its size limit. Larger documents, whose size a descriptor tells, go as blobs.
 */
export const MAX_ANSWER_BYTES = 256 << 10

/** Longest reference in characters. */
const MAX_REFERENCE_LENGTH = 512
/** Platforms in one answer. */
const MAX_PLATFORMS = 256

const digest = z.custom<Digest>(isDigest, 'must be a sha256 digest')
const bytes = z.custom<Uint8Array>(
  (value) => value instanceof Uint8Array && value.length <= MAX_ANSWER_BYTES,
  'must be bytes',
)

const schemas = {
  resolveQuestion: z.object({ reference: z.string().max(MAX_REFERENCE_LENGTH) }),
  resolveAnswer: z
    .object({
      digest,
      generation: z.int().nonnegative(),
      isLearned: z.boolean(),
      platforms: z.array(z.object({ os: z.string(), architecture: z.string() })).max(MAX_PLATFORMS),
    })
    .nullable(),
  manifestQuestion: z.object({ digest }),
  manifestAnswer: z.object({ bytes }).nullable(),
  blobQuestion: z.object({ digest, offset: z.int().nonnegative() }),
} as const

/** `image.resolve`'s answer; null: not here. */
export type ResolveAnswer = z.infer<typeof schemas.resolveAnswer>
/** `image.manifest`'s answer; null: not here. */
export type ManifestAnswer = z.infer<typeof schemas.manifestAnswer>

/** Decodes a body from another node. @throws INVALID_ARGUMENT */
export function decodeBody<Name extends keyof typeof schemas>(
  name: Name,
  body: unknown,
): z.infer<(typeof schemas)[Name]> {
  const result = schemas[name].safeParse(body)
  if (result.success) return result.data as z.infer<(typeof schemas)[Name]>
  throw new SwarmError('INVALID_ARGUMENT', `peer: ${name} is malformed`, { cause: result.error })
}
