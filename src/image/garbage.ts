/**
 * Garbage collection: what no image of this node reaches is deleted. Mark and sweep from the tag
 * table; the caller makes sure that nothing is being brought in meanwhile (`CollectionLock`).
 */
import type { Logger } from '../base/log.ts'
import type { Digest } from './digest.ts'
import { blobsOf } from './image-tree.ts'
import type { ImageParts, LocalImages } from './local-images.ts'

/** What a collection deleted. */
export interface Collected {
  readonly blobs: number
  readonly layers: number
}

/**
 * Deletes blobs and layers that nothing references.
 * @throws what reading an image throws: when one image cannot be read, nothing is deleted
 */
export async function collectGarbage(
  parts: ImageParts,
  local: LocalImages,
  log: Logger,
): Promise<Collected> {
  const live = new Set<Digest>()
  for (const root of parts.tags.images()) {
    const tree = await local.tree(root)
    for (const index of tree.indexes) live.add(index)
    for (const image of tree.images) {
      for (const blob of blobsOf(image)) live.add(blob)
      for (const diffId of image.config.rootfs.diff_ids) live.add(diffId)
    }
    // A manifest whose config is not here yet.
    for (const { digest } of tree.absent) live.add(digest)
  }
  const blobs = parts.content.digests().filter((digest) => !live.has(digest))
  const layers = parts.layers.diffIds().filter((diffId) => !live.has(diffId))
  for (const digest of blobs) await parts.content.delete(digest)
  for (const diffId of layers) await parts.layers.delete(diffId)
  const collected = { blobs: blobs.length, layers: layers.length }
  if (blobs.length + layers.length > 0) log.info(collected, 'image garbage collected')
  return collected
}
