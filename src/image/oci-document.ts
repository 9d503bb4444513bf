/**
 * OCI and Docker image documents, decoded at the border: index, manifest, config, `manifest.json`.
 *
 * Refused: schema 1, foreign and non-distributable layers, unknown layer media types, a document
 * that is both an index and a manifest (CVE-2021-41190). Sources: OCI image-spec 1.1 `manifest.md`,
 * `image-index.md`, `config.md`; Docker image manifest v2 schema 2.
 */
import { z } from 'zod'
import { SwarmError } from '../base/errors.ts'
import { isDigest } from './digest.ts'
import type { Digest } from './digest.ts'

/** Media types that Skein writes. */
export const MEDIA_TYPES = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar',
  gzipLayer: 'application/vnd.oci.image.layer.v1.tar+gzip',
  zstdLayer: 'application/vnd.oci.image.layer.v1.tar+zstd',
} as const

/** Layers of one image; overlayfs takes 500, Docker 128. */
const MAX_LAYERS = 128
/** Entries of one index. */
const MAX_INDEX_ENTRIES = 1024

const INDEX_TYPES: ReadonlySet<string> = new Set([
  MEDIA_TYPES.index,
  'application/vnd.docker.distribution.manifest.list.v2+json',
])
const MANIFEST_TYPES: ReadonlySet<string> = new Set([
  MEDIA_TYPES.manifest,
  'application/vnd.docker.distribution.manifest.v2+json',
])
const LAYER_TYPES: ReadonlySet<string> = new Set([
  MEDIA_TYPES.layer,
  MEDIA_TYPES.gzipLayer,
  MEDIA_TYPES.zstdLayer,
  'application/vnd.docker.image.rootfs.diff.tar',
  'application/vnd.docker.image.rootfs.diff.tar.gzip',
  'application/vnd.docker.image.rootfs.diff.tar.zstd',
])
const CONFIG_TYPES: ReadonlySet<string> = new Set([
  MEDIA_TYPES.config,
  'application/vnd.docker.container.image.v1+json',
])

const digest = z.custom<Digest>(isDigest, 'must be a sha256 digest')
const platform = z.object({
  os: z.string(),
  architecture: z.string(),
  variant: z.string().optional(),
})
const annotations = z.record(z.string(), z.string()).nullish()
const descriptor = z.object({
  mediaType: z.string(),
  digest,
  size: z.int().nonnegative(),
  platform: platform.nullish(),
  annotations,
})
const index = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  manifests: z.array(descriptor).max(MAX_INDEX_ENTRIES),
})
const manifest = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  config: descriptor,
  layers: z.array(descriptor).max(MAX_LAYERS),
})
const strings = z.array(z.string()).nullish()
const set = z.record(z.string(), z.unknown()).nullish()
/** Docker's additions to the OCI config. What cannot be read is as if it were absent. */
const healthcheck = z.object({
  Test: z.array(z.string()).exactOptional(),
  Interval: z.int().exactOptional(),
  Timeout: z.int().exactOptional(),
  Retries: z.int().exactOptional(),
  StartPeriod: z.int().exactOptional(),
  StartInterval: z.int().exactOptional(),
})
const config = z.object({
  created: z.string().nullish(),
  os: z.string(),
  architecture: z.string(),
  variant: z.string().optional(),
  config: z
    .object({
      User: z.string().nullish(),
      Env: strings,
      Entrypoint: strings,
      Cmd: strings,
      WorkingDir: z.string().nullish(),
      StopSignal: z.string().nullish(),
      Labels: z.record(z.string(), z.string()).nullish(),
      Volumes: set,
      ExposedPorts: set,
      Healthcheck: healthcheck.nullish().catch(undefined),
      Shell: strings.catch(undefined),
    })
    .nullish(),
  rootfs: z.object({ type: z.literal('layers'), diff_ids: z.array(digest).max(MAX_LAYERS) }),
})
const dockerArchive = z.array(
  z.object({ Config: z.string(), RepoTags: strings, Layers: z.array(z.string()).max(MAX_LAYERS) }),
)

/** A reference to a blob with its size and type. */
export type Descriptor = z.infer<typeof descriptor>
/** A list of manifests. */
export type IndexDocument = z.infer<typeof index>
/** One image for one platform. */
export type ManifestDocument = z.infer<typeof manifest>
/** An image's own defaults and its layers' uncompressed digests. */
export type ConfigDocument = z.infer<typeof config>
/** `manifest.json` of a docker-archive. */
export type DockerArchiveDocument = z.infer<typeof dockerArchive>

/** What a manifest digest may stand for. */
export type ImageDocument =
  | { readonly type: 'index'; readonly index: IndexDocument }
  | { readonly type: 'manifest'; readonly manifest: ManifestDocument }

/** Decodes an index or a manifest. `subject` begins messages. @throws INVALID_ARGUMENT */
export function decodeImageDocument(bytes: Uint8Array, subject: string): ImageDocument {
  const json = parseJson(bytes, subject)
  refuseOldSchema(json, subject)
  const isIndex = 'manifests' in json
  if (isIndex === 'layers' in json) throw refused(subject, 'is neither an index nor a manifest')
  if (isIndex) {
    const decoded = check(index, json, subject)
    refuseMediaType(decoded.mediaType, INDEX_TYPES, subject)
    return { type: 'index', index: decoded }
  }
  const decoded = check(manifest, json, subject)
  refuseMediaType(decoded.mediaType, MANIFEST_TYPES, subject)
  refuseMediaType(decoded.config.mediaType, CONFIG_TYPES, `${subject}: config`)
  for (const layer of decoded.layers) refuseLayer(layer, subject)
  return { type: 'manifest', manifest: decoded }
}

/** Decodes an image config. @throws INVALID_ARGUMENT */
export function decodeConfig(bytes: Uint8Array, subject: string): ConfigDocument {
  return check(config, parseJson(bytes, subject), subject)
}

/** Decodes `manifest.json` of a docker-archive. @throws INVALID_ARGUMENT */
export function decodeDockerArchive(bytes: Uint8Array): DockerArchiveDocument {
  return check(dockerArchive, parseJson(bytes, 'manifest.json'), 'manifest.json')
}

/** Whether a descriptor may lead to an image (an attestation or an artifact does not). */
export function leadsToImage(entry: Descriptor): boolean {
  if (entry.annotations?.['vnd.docker.reference.type'] !== undefined) return false
  return INDEX_TYPES.has(entry.mediaType) || MANIFEST_TYPES.has(entry.mediaType)
}

function parseJson(bytes: Uint8Array, subject: string): object {
  try {
    const json: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
    if (typeof json === 'object' && json !== null) return json
  } catch (error) {
    throw new SwarmError('INVALID_ARGUMENT', `${subject}: is not JSON`, { cause: error })
  }
  throw refused(subject, 'is not a JSON object')
}

function check<T>(schema: z.ZodType<T>, json: object, subject: string): T {
  const result = schema.safeParse(json)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  const where = issue?.path.join('.') ?? ''
  throw refused(subject, `${where === '' ? 'document' : where}: ${issue?.message ?? 'malformed'}`)
}

function refuseOldSchema(json: object, subject: string): void {
  if (!('schemaVersion' in json) || json.schemaVersion !== 1) return
  throw refused(subject, 'image manifest schema 1 is not supported')
}

function refuseMediaType(
  mediaType: string | undefined,
  allowed: ReadonlySet<string>,
  subject: string,
): void {
  if (mediaType === undefined || allowed.has(mediaType)) return
  throw refused(subject, `media type ${JSON.stringify(mediaType)} is not supported`)
}

function refuseLayer(layer: Descriptor, subject: string): void {
  if (/foreign|nondistributable/.test(layer.mediaType)) {
    throw refused(subject, 'foreign (non-distributable) layers are not supported')
  }
  refuseMediaType(layer.mediaType, LAYER_TYPES, `${subject}: layer`)
}

function refused(subject: string, what: string): SwarmError {
  return new SwarmError('INVALID_ARGUMENT', `${subject}: ${what}`)
}
