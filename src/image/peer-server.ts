/**
 * Answers other nodes' questions about images (`peer-protocol.ts`). Reads only, bounded answers; a
 * digest is checked to be one before it is used, so no path can be asked for.
 */
import { MAX_ANSWER_BYTES, METHODS, decodeBody } from './peer-protocol.ts'
import type { ManifestAnswer, ResolveAnswer } from './peer-protocol.ts'
import type { ContentStore } from './content-store.ts'
import type { ImageTree } from './image-tree.ts'
import type { LocalImages } from './local-images.ts'
import type { ImagePeers } from './ports.ts'

/** Registers the three methods. */
export function serveImages(peers: ImagePeers, content: ContentStore, local: LocalImages): void {
  peers.handle(METHODS.resolve, async (body): Promise<ResolveAnswer> => {
    const found = await local.lookup(decodeBody('resolveQuestion', body).reference)
    if (found === undefined) return null
    return {
      digest: found.digest,
      generation: found.tag?.generation ?? 0,
      isLearned: found.tag?.isLearned ?? false,
      platforms: availablePlatforms(await local.tree(found.digest)),
    }
  })
  peers.handle(METHODS.manifest, async (body): Promise<ManifestAnswer> => {
    const { digest } = decodeBody('manifestQuestion', body)
    const size = content.sizeOf(digest)
    if (size === undefined || size > MAX_ANSWER_BYTES) return null
    return { bytes: await content.document(digest) }
  })
  peers.handleDownload(METHODS.blob, (body) => {
    const { digest, offset } = decodeBody('blobQuestion', body)
    return content.read(digest, offset)
  })
}

/** Platforms whose content is complete, each once. */
export function availablePlatforms(
  tree: ImageTree,
): { readonly os: string; readonly architecture: string }[] {
  const byText = new Map<string, { os: string; architecture: string }>()
  for (const { isComplete, platform } of tree.images) {
    const { os, architecture } = platform
    if (isComplete) byText.set(`${os}/${architecture}`, { os, architecture })
  }
  return [...byText.values()]
}
