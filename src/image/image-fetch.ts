/**
 * Fetches one image for one host from peers: documents from the root down, only the branch that
 * this host runs, then the layers.
 */
import { SwarmError, isSwarmError } from '../base/errors.ts'
import { MAX_DOCUMENT_BYTES } from './content-store.ts'
import type { ContentStore } from './content-store.ts'
import type { Digest } from './digest.ts'
import { eachOf } from './image-loader.ts'
import { imageOf, noPlatform, readImageTree } from './image-tree.ts'
import { decodeImageDocument, leadsToImage } from './oci-document.ts'
import type { Descriptor } from './oci-document.ts'
import type { PeerFetcher } from './peer-fetcher.ts'
import { MAX_ANSWER_BYTES } from './peer-protocol.ts'
import { choosePlatform, isImagePlatform } from './platform.ts'
import type { Platform } from './platform.ts'

/** Indexes inside indexes. */
const MAX_DEPTH = 4
/** Entries of an index without a platform that are looked into. */
const MAX_UNTYPED = 16
/** Layers that are fetched at once. */
const DOWNLOADS_AT_ONCE = 3

interface Fetch {
  readonly fetcher: PeerFetcher
  readonly content: ContentStore
  readonly host: Platform
  readonly subject: string
  readonly signal: AbortSignal
}

/** A document; the root's size is not known. */
interface Wanted {
  readonly digest: Digest
  readonly size?: number
}

/**
 * Brings everything that `fetch.host` needs of the image `digest` into the store.
 * @throws NOT_FOUND, UNAVAILABLE, STORAGE_FULL, INVALID_ARGUMENT, ABORTED
 */
export async function fetchImage(fetch: Fetch, digest: Digest): Promise<void> {
  await fetchDocuments(fetch, { digest }, 0)
  const image = imageOf(await readImageTree(fetch.content, digest), fetch.host)
  if (image === undefined) throw noPlatform(fetch.subject, fetch.host)
  await eachOf(image.manifest.layers, DOWNLOADS_AT_ONCE, (layer) =>
    fetch.fetcher.fetchBlob(layer.digest, layer.size, fetch.signal),
  )
}

async function fetchDocuments(fetch: Fetch, wanted: Wanted, depth: number): Promise<void> {
  const { digest } = wanted
  await fetchDocument(fetch, wanted)
  const bytes = await fetch.content.document(digest)
  const document = decodeImageDocument(bytes, `manifest ${digest}`)
  if (document.type === 'manifest') {
    await fetchDocument(fetch, document.manifest.config)
    return
  }
  if (depth >= MAX_DEPTH) {
    throw new SwarmError('INVALID_ARGUMENT', `${fetch.subject}: indexes are nested too deeply`)
  }
  for (const child of branches(document.index.manifests, fetch)) {
    await fetchDocuments(fetch, child, depth + 1)
  }
}

/** The entry for this host, or the entries that do not say what they are for. */
function branches(entries: readonly Descriptor[], fetch: Fetch): readonly Descriptor[] {
  const images = entries.filter(leadsToImage)
  const typed = images.flatMap((entry) =>
    entry.platform && isImagePlatform(entry.platform) ? [{ entry, platform: entry.platform }] : [],
  )
  const chosen = choosePlatform(typed, fetch.host)
  if (chosen !== undefined) return [chosen.entry]
  const untyped = images.filter((entry) => !entry.platform).slice(0, MAX_UNTYPED)
  if (untyped.length === 0) throw noPlatform(fetch.subject, fetch.host)
  return untyped
}

async function fetchDocument(fetch: Fetch, { digest, size = 0 }: Wanted): Promise<void> {
  if (size > MAX_DOCUMENT_BYTES) {
    throw new SwarmError('INVALID_ARGUMENT', `${fetch.subject}: ${digest} is too large`)
  }
  if (fetch.content.has(digest) && !(await isIntact(fetch.content, digest))) {
    await fetch.content.delete(digest)
  }
  if (size > MAX_ANSWER_BYTES) {
    await fetch.fetcher.fetchBlob(digest, size, fetch.signal)
    return
  }
  if (await fetch.fetcher.fetchDocument(digest, fetch.signal)) return
  throw notFound(fetch.subject)
}

async function isIntact(content: ContentStore, digest: Digest): Promise<boolean> {
  try {
    await content.document(digest)
    return true
  } catch (error) {
    if (isSwarmError(error, 'STORAGE_CORRUPT') || isSwarmError(error, 'NOT_FOUND')) return false
    throw error
  }
}

/** The error for an image that nobody has. */
export function notFound(subject: string): SwarmError {
  return new SwarmError('NOT_FOUND', `${subject}: no node that can be reached has it`)
}
