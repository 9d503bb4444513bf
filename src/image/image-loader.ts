/**
 * `load`: an archive becomes images of this node.
 *
 * Order: stage everything, understand everything, commit blobs, unpack (this host's platform) or
 * verify (others), and only then write names. So a bad archive changes nothing that anyone can see;
 * blobs that were committed on the way are collected by the caller.
 */
import { assert } from '../base/assert.ts'
import { Archive } from './archive.ts'
import { readArchiveImages } from './archive-images.ts'
import type { ArchiveImage } from './archive-images.ts'
import type { Digest } from './digest.ts'
import { blobsOf, imageForHost } from './image-tree.ts'
import type { ImageTree, PlatformImage } from './image-tree.ts'
import type { ImageParts, LocalImages } from './local-images.ts'
import { familiar } from './reference.ts'
import { withdrawn } from './shared-work.ts'
import type { Tag } from './tag-table.ts'
import { verifyLayer } from './unpack/layer-unpacker.ts'
import type { LayerSource } from './unpack/layer-unpacker.ts'

/** Layers unpacked or fetched at once; each costs a process. */
export const LAYERS_AT_ONCE = 2

/** How often a name was given before, as far as anyone knows; asked once for each name. */
export type GenerationOf = (name: string) => Promise<number>

/** Loads an archive; returns Docker's lines. @throws INVALID_ARGUMENT, STORAGE_FULL, ABORTED … */
export async function loadArchive(
  parts: ImageParts,
  local: LocalImages,
  tar: AsyncIterable<Uint8Array>,
  options: { readonly generationOf: GenerationOf; readonly signal?: AbortSignal },
): Promise<string[]> {
  const { signal } = options
  const archive = await Archive.stage(parts.content, tar, signal)
  try {
    const images = await readArchiveImages(archive)
    for (const { tree } of images) await bringIn(parts, archive, tree, signal)
    local.forget()
    return await publish(parts, local, images, options.generationOf)
  } finally {
    await archive.discard()
  }
}

/** Commits everything of a tree that the archive has, and makes this host's image ready. */
async function bringIn(
  parts: ImageParts,
  archive: Archive,
  tree: ImageTree,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const index of tree.indexes) await archive.commit(index)
  for (const image of tree.images.filter(({ isComplete }) => isComplete)) {
    const fresh = new Set<Digest>()
    for (const digest of blobsOf(image)) if (await archive.commit(digest)) fresh.add(digest)
    const isForHost = image === imageForHost(tree, parts.host)
    await verifyImage(parts, image, { fresh, isUnpacked: isForHost, signal })
    if (isForHost) await unpackImage(parts, image, signal)
  }
}

/** Unpacks all layers of an image whose blobs are here. */
export async function unpackImage(
  parts: ImageParts,
  image: PlatformImage,
  signal?: AbortSignal,
): Promise<void> {
  const sources = layerSources(parts, image)
  await eachOf(sources, LAYERS_AT_ONCE, (source) => parts.layers.ensure(source, signal))
}

/**
 * Runs `work` for all items, at most `limit` at once; waits for all, then throws the first error.
 */
export async function eachOf<T>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const queue = [...items]
  const worker = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) {
      try {
        await work(item)
      } catch (error) {
        queue.length = 0
        throw error
      }
    }
  }
  const workers = Array.from({ length: Math.min(limit, items.length) }, worker)
  const results = await Promise.allSettled(workers)
  for (const result of results) if (result.status === 'rejected') throw result.reason
}

/** Checks diff_ids of new blobs that will not be unpacked. */
async function verifyImage(
  parts: ImageParts,
  image: PlatformImage,
  how: {
    readonly fresh: ReadonlySet<Digest>
    readonly isUnpacked: boolean
    readonly signal: AbortSignal | undefined
  },
): Promise<void> {
  for (const source of layerSources(parts, image)) {
    if (how.signal?.aborted === true) throw withdrawn(`image ${image.digest}`, how.signal)
    const willBeChecked = how.isUnpacked && !parts.layers.has(source.diffId)
    if (how.fresh.has(source.digest) && !willBeChecked) await verifyLayer(source)
  }
}

function layerSources(parts: ImageParts, image: PlatformImage): LayerSource[] {
  return image.manifest.layers.map((layer, index) => {
    const diffId = image.config.rootfs.diff_ids[index]
    assert(diffId !== undefined, 'as many diff_ids as layers')
    return { digest: layer.digest, diffId, read: () => parts.content.read(layer.digest) }
  })
}

async function publish(
  parts: ImageParts,
  local: LocalImages,
  images: readonly ArchiveImage[],
  generationOf: GenerationOf,
): Promise<string[]> {
  const names = new Map<string, Digest>()
  for (const { tree, tags } of images) for (const tag of tags) names.set(tag, tree.digest)
  const generations = new Map<string, number>()
  for (const name of names.keys()) generations.set(name, await generationOf(name))
  const lines: string[] = []
  for (const [name, digest] of names)
    lines.push(...(await renamingLines(parts, local, name, digest)))
  await parts.tags.write((table) => ({
    addImages: images.map(({ tree }) => tree.digest),
    setTags: new Map(
      [...names].map(([name, digest]): [string, Tag] => {
        const known = Math.max(generations.get(name) ?? 0, table.tags().get(name)?.generation ?? 0)
        return [name, { digest, generation: known + 1, isLearned: false }]
      }),
    ),
  }))
  for (const image of images) lines.push(...loadedLines(local, image))
  return lines
}

/** Docker's words when a name moves from another image. */
async function renamingLines(
  parts: ImageParts,
  local: LocalImages,
  name: string,
  digest: Digest,
): Promise<string[]> {
  const old = parts.tags.tags().get(name)
  if (old === undefined || old.digest === digest || old.isLearned) return []
  const id = (await local.summary(old.digest))?.id ?? old.digest
  const shown = familiar(name)
  return [`The image ${shown} already exists, renaming the old one with ID ${id} to empty string`]
}

function loadedLines(local: LocalImages, { tree, tags }: ArchiveImage): string[] {
  if (tags.length > 0) return tags.map((tag) => `Loaded image: ${familiar(tag)}`)
  const id = local.shown(tree)?.manifest.config.digest ?? tree.digest
  return [`Loaded image ID: ${id}`]
}
