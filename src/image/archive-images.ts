/**
 * What an archive contains: one entry for each image, with its names. Two formats, and archives
 * that are both at once (what Docker ≥ 25 saves): OCI layout (`index.json`) wins, names come from
 * its annotations or from `manifest.json`.
 *
 * A docker-archive has no manifest of its own; one is made from it, deterministically: the same
 * archive gives the same digest on every node. Sources: OCI image-spec `image-layout.md`; moby
 * `image/tarexport/load.go`; containerd's `io.containerd.image.name`.
 */

import { SwarmError } from '../base/errors.ts'
import type { Archive } from './archive.ts'
import type { StagedBlob } from './content-store.ts'
import type { Digest } from './digest.ts'
import { readImageTree } from './image-tree.ts'
import type { ImageTree } from './image-tree.ts'
import {
  MEDIA_TYPES,
  decodeConfig,
  decodeDockerArchive,
  decodeImageDocument,
  leadsToImage,
} from './oci-document.ts'
import type { Descriptor, DockerArchiveDocument } from './oci-document.ts'
import { DEFAULT_TAG, canonicalTag, parseReference } from './reference.ts'

/** One image of an archive, checked to be complete for at least one platform. */
export interface ArchiveImage {
  readonly tree: ImageTree
  /** Canonical tags; empty for an image without name. */
  readonly tags: readonly string[]
}

/** Names by config digest, from `manifest.json`. */
type DockerNames = ReadonlyMap<Digest, readonly string[]>

const NAME_ANNOTATION = 'io.containerd.image.name'
const REFERENCE_ANNOTATION = 'org.opencontainers.image.ref.name'

/** Reads what `archive` contains. @throws INVALID_ARGUMENT */
export async function readArchiveImages(archive: Archive): Promise<ArchiveImage[]> {
  const index = await archive.text('index.json')
  const docker = await archive.text('manifest.json')
  if (index !== undefined) {
    const names = docker === undefined ? new Map() : dockerNames(archive, docker)
    return readLayout(archive, index, names)
  }
  if (docker !== undefined) return readDockerArchive(archive, decodeDockerArchive(docker))
  if (archive.file('repositories') !== undefined) {
    throw refused('is older than Docker 1.10; save it again with a newer Docker')
  }
  throw refused('has neither index.json nor manifest.json')
}

async function readLayout(
  archive: Archive,
  bytes: Uint8Array,
  names: DockerNames,
): Promise<ArchiveImage[]> {
  const document = decodeImageDocument(bytes, 'index.json')
  if (document.type !== 'index') throw refused('index.json is not an index')
  const images = new Map<Digest, ArchiveImage>()
  for (const descriptor of document.index.manifests) {
    if (!leadsToImage(descriptor)) continue
    const image = await readLayoutImage(archive, descriptor, names)
    const tags = new Set([...(images.get(descriptor.digest)?.tags ?? []), ...image.tags])
    images.set(descriptor.digest, { tree: image.tree, tags: [...tags] })
  }
  if (images.size === 0) throw refused('index.json names no image')
  return [...images.values()]
}

async function readLayoutImage(
  archive: Archive,
  descriptor: Descriptor,
  names: DockerNames,
): Promise<ArchiveImage> {
  requireBlob(archive, descriptor)
  const tree = await readImageTree(archive, descriptor.digest)
  requireComplete(archive, tree)
  const configs = tree.images.map((image) => image.manifest.config.digest)
  const fromDocker = configs.flatMap((config) => names.get(config) ?? [])
  return { tree, tags: layoutTags(descriptor, fromDocker) }
}

function layoutTags(descriptor: Descriptor, fromDocker: readonly string[]): string[] {
  const name = descriptor.annotations?.[NAME_ANNOTATION]
  if (name !== undefined) return [canonicalTag(parseReference(name))]
  if (fromDocker.length > 0) return [...fromDocker]
  const reference = descriptor.annotations?.[REFERENCE_ANNOTATION]
  // `latest` alone is a tag of an image whose name nobody wrote down.
  if (reference === undefined || reference === DEFAULT_TAG) return []
  return [canonicalTag(parseReference(reference))]
}

function requireBlob(archive: Archive, descriptor: Descriptor): void {
  const size = archive.sizeOf(descriptor.digest)
  if (size === undefined) throw refused(`blob ${descriptor.digest} is missing or damaged`)
  if (size !== descriptor.size) throw refused(`blob ${descriptor.digest} has another size`)
}

/** At least one platform must be whole; says what is missing if none is. */
function requireComplete(archive: Archive, tree: ImageTree): void {
  if (tree.images.some(({ isComplete }) => isComplete)) return
  const missing = tree.images
    .flatMap(({ manifest }) => manifest.layers)
    .find((layer) => archive.sizeOf(layer.digest) === undefined)
  const digest = missing?.digest ?? tree.absent[0]?.digest
  if (digest === undefined) throw refused(`index ${tree.digest} names no image`)
  throw refused(`content of ${digest} is missing or damaged`)
}

function dockerNames(archive: Archive, bytes: Uint8Array): DockerNames {
  const names = new Map<Digest, readonly string[]>()
  for (const image of decodeDockerArchive(bytes)) {
    const config = archive.file(image.Config)
    if (config !== undefined) names.set(config.digest, repoTags(image))
  }
  return names
}

function repoTags(image: DockerArchiveDocument[number]): string[] {
  return (image.RepoTags ?? []).map((tag) => canonicalTag(parseReference(tag)))
}

async function readDockerArchive(
  archive: Archive,
  document: DockerArchiveDocument,
): Promise<ArchiveImage[]> {
  if (document.length === 0) throw refused('manifest.json names no image')
  const images: ArchiveImage[] = []
  for (const image of document) {
    const digest = await archive.add(await synthesise(archive, image))
    const tree = await readImageTree(archive, digest)
    requireComplete(archive, tree)
    images.push({ tree, tags: repoTags(image) })
  }
  return images
}

/** An OCI manifest for an image of a docker-archive; member order is part of its identity. */
async function synthesise(
  archive: Archive,
  image: DockerArchiveDocument[number],
): Promise<Uint8Array> {
  const config = required(archive, image.Config)
  const bytes = await config.document()
  if (bytes === undefined) throw refused(`${image.Config} is too large for a config`)
  const { rootfs } = decodeConfig(bytes, image.Config)
  if (rootfs.diff_ids.length !== image.Layers.length) {
    throw refused(`${image.Config} and manifest.json have different numbers of layers`)
  }
  const layers = []
  for (const path of image.Layers) {
    const layer = required(archive, path)
    layers.push(describe(await layerMediaType(layer), layer))
  }
  const manifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.manifest,
    config: describe(MEDIA_TYPES.config, config),
    layers,
  }
  return Buffer.from(JSON.stringify(manifest))
}

function describe(mediaType: string, blob: StagedBlob): Descriptor {
  return { mediaType, digest: blob.digest, size: blob.sizeBytes }
}

async function layerMediaType(layer: StagedBlob): Promise<string> {
  const magic = Buffer.from(await layer.head(4)).toString('hex')
  if (magic.startsWith('1f8b')) return MEDIA_TYPES.gzipLayer
  return magic === '28b52ffd' ? MEDIA_TYPES.zstdLayer : MEDIA_TYPES.layer
}

function required(archive: Archive, path: string): StagedBlob {
  const blob = archive.file(path)
  if (blob === undefined) throw refused(`${JSON.stringify(path)} is missing`)

  return blob
}

function refused(what: string): SwarmError {
  return new SwarmError('INVALID_ARGUMENT', `image archive: ${what}`)
}
