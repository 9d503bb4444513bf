/**
 * From a digest to everything below it: nested indexes, manifests, configs, layers. The same walk
 * serves the loader (over an archive), listings, garbage collection and peers (over the store).
 *
 * Invariants: an image is *complete* when its manifest, its config and all its layers are there;
 * entries of an index whose content is elsewhere stay in the tree as incomplete.
 */
import { SwarmError } from '../base/errors.ts'
import type { Digest } from './digest.ts'
import { decodeConfig, decodeImageDocument, leadsToImage } from './oci-document.ts'
import type { ConfigDocument, Descriptor, ManifestDocument } from './oci-document.ts'
import { choosePlatform, isImagePlatform, normalisePlatform, platformText } from './platform.ts'
import type { Platform } from './platform.ts'

/** Where the walk finds blobs. */
export interface BlobReader {
  /** Size in bytes, undefined if the blob is not there. */
  sizeOf(digest: Digest): number | undefined
  /** A small blob, verified. */
  document(digest: Digest): Promise<Uint8Array>
}

/** One image for one platform whose manifest and config are known. */
export interface PlatformImage {
  readonly digest: Digest
  readonly platform: Platform
  readonly manifest: ManifestDocument
  readonly config: ConfigDocument
  /** All its layers are there. */
  readonly isComplete: boolean
}

/** Everything below one digest. */
export interface ImageTree {
  readonly digest: Digest
  readonly isIndex: boolean
  /** Digests of the indexes, the root among them if it is one. */
  readonly indexes: readonly Digest[]
  readonly images: readonly PlatformImage[]
  /** Manifests that are named but not there. */
  readonly absent: readonly Descriptor[]
}

/** Indexes inside indexes. */
const MAX_DEPTH = 4
/** Manifests below one digest. */
const MAX_MANIFESTS = 256

interface Walk {
  readonly reader: BlobReader
  readonly indexes: Set<Digest>
  readonly images: Map<Digest, PlatformImage>
  readonly absent: Map<Digest, Descriptor>
}

/**
 * Reads the tree below `digest`. @throws NOT_FOUND (the root), INVALID_ARGUMENT, STORAGE_CORRUPT
 */
export async function readImageTree(reader: BlobReader, digest: Digest): Promise<ImageTree> {
  const walk: Walk = { reader, indexes: new Set(), images: new Map(), absent: new Map() }
  await visit(walk, { digest }, 0)
  return {
    digest,
    isIndex: walk.indexes.has(digest),
    indexes: [...walk.indexes],
    images: [...walk.images.values()],
    absent: [...walk.absent.values()],
  }
}

/** The complete image of `tree` that `host` runs. */
export function imageForHost(tree: ImageTree, host: Platform): PlatformImage | undefined {
  const images = tree.images.filter(({ isComplete }) => isComplete)
  return imageOf({ ...tree, images }, host)
}

/**
 * The image of `tree` that `host` runs, whether its layers are here or not. A manifest without an
 * index runs where its user says.
 */
export function imageOf(tree: ImageTree, host: Platform): PlatformImage | undefined {
  return tree.isIndex ? choosePlatform(tree.images, host) : tree.images[0]
}

/** All blobs of one image: manifest, config, layers. */
export function blobsOf(image: PlatformImage): readonly Digest[] {
  return [image.digest, image.manifest.config.digest, ...image.manifest.layers.map((l) => l.digest)]
}

/** The error for an index without a manifest for this host. */
export function noPlatform(subject: string, host: Platform): SwarmError {
  return new SwarmError(
    'NOT_FOUND',
    `${subject}: no matching manifest for ${platformText(host)} in the manifest list entries`,
  )
}

async function visit(
  walk: Walk,
  entry: { readonly digest: Digest; readonly platform?: Descriptor['platform'] },
  depth: number,
): Promise<void> {
  const subject = `manifest ${entry.digest}`
  if (depth > MAX_DEPTH) throw refused(subject, `indexes are nested deeper than ${MAX_DEPTH}`)
  const document = decodeImageDocument(await walk.reader.document(entry.digest), subject)
  if (document.type === 'manifest') {
    await visitManifest(walk, entry, document.manifest)
    return
  }
  walk.indexes.add(entry.digest)
  for (const child of document.index.manifests) {
    if (!leadsToImage(child)) continue
    if (child.platform && !isImagePlatform(child.platform)) continue
    const known = walk.images.size + walk.absent.size + walk.indexes.size
    if (known > MAX_MANIFESTS) throw refused(subject, `more than ${MAX_MANIFESTS} manifests`)
    if (walk.reader.sizeOf(child.digest) === undefined) walk.absent.set(child.digest, child)
    else if (!walk.indexes.has(child.digest)) await visit(walk, child, depth + 1)
  }
}

async function visitManifest(
  walk: Walk,
  entry: { readonly digest: Digest; readonly platform?: Descriptor['platform'] },
  manifest: ManifestDocument,
): Promise<void> {
  const { digest } = entry
  const subject = `manifest ${digest}`
  const configSize = walk.reader.sizeOf(manifest.config.digest)
  if (configSize === undefined) {
    walk.absent.set(digest, {
      mediaType: manifest.mediaType ?? '',
      digest,
      size: walk.reader.sizeOf(digest) ?? 0,
      platform: entry.platform,
    })
    return
  }
  if (configSize !== manifest.config.size) throw refused(subject, 'config has another size')
  const bytes = await walk.reader.document(manifest.config.digest)
  const config = decodeConfig(bytes, `config ${manifest.config.digest}`)
  checkLayers(walk.reader, manifest, config, subject)
  const platform = entry.platform ?? config
  walk.images.set(digest, {
    digest,
    platform: normalisePlatform(platform),
    manifest,
    config,
    isComplete: manifest.layers.every((layer) => walk.reader.sizeOf(layer.digest) !== undefined),
  })
}

function checkLayers(
  reader: BlobReader,
  manifest: ManifestDocument,
  config: ConfigDocument,
  subject: string,
): void {
  if (config.os === '') throw refused(subject, 'config names no operating system')
  if (config.rootfs.diff_ids.length !== manifest.layers.length) {
    throw refused(subject, 'manifest and config have different numbers of layers')
  }
  for (const layer of manifest.layers) {
    const size = reader.sizeOf(layer.digest)
    if (size !== undefined && size !== layer.size) {
      throw refused(subject, `layer ${layer.digest} has another size`)
    }
  }
}

function refused(subject: string, what: string): SwarmError {
  return new SwarmError('INVALID_ARGUMENT', `${subject}: ${what}`)
}
