/**
 * The images of one node: loaded here or fetched from peers, unpacked, listed, removed.
 *
 * ```
 *  load ──► archive ──► content store ──► layers (unpacked) ──► tag table
 *  ensure ─► peers ───────┘                                  └─► ReadyImage
 * ```
 *
 * Invariants: a name in the table leads to content that is here; content that no image reaches is
 * collected, but never while something is being brought in (`CollectionLock`); bytes from peers are
 * believed only as far as their digest goes. Walls that a later issue may move without touching
 * this: where bytes come from (`peer-fetcher.ts`), how they lie on disk (`content-store.ts`).
 */
import { mkdir } from 'node:fs/promises'
import type { Clock } from '../base/clock.ts'
import { SwarmError, isSwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import { CollectionLock } from './collection-lock.ts'
import { ContentStore } from './content-store.ts'
import type { Digest } from './digest.ts'
import { collectGarbage } from './garbage.ts'
import { fetchImage, notFound } from './image-fetch.ts'
import { loadArchive, unpackImage } from './image-loader.ts'
import { planRemoval } from './image-removal.ts'
import { imageForHost, noPlatform } from './image-tree.ts'
import type { ImageTree, PlatformImage } from './image-tree.ts'
import { LayerStore } from './layer-store.ts'
import { LocalImages } from './local-images.ts'
import type { ImageParts, LocalImage } from './local-images.ts'
import { PeerFetcher } from './peer-fetcher.ts'
import { availablePlatforms, serveImages } from './peer-server.ts'
import { hostPlatform } from './platform.ts'
import type { Platform } from './platform.ts'
import type { ImagePeers, ImageSummary, Images, ReadyImage } from './ports.ts'
import { canonicalTag, familiar, maybeReference, parseReference } from './reference.ts'
import { SharedWork } from './shared-work.ts'
import { TagTable } from './tag-table.ts'
import { DEFAULT_UNPACK_LIMITS } from './unpack/layer-unpacker.ts'
import type { UnpackLimits } from './unpack/layer-unpacker.ts'

/** What the store needs of its surroundings. Without `peers` it knows only what was loaded here. */
export interface ImageComponents {
  readonly clock: Clock
  readonly log: Logger
  readonly random: Random
  readonly peers?: ImagePeers
}

/** Plain options. */
export interface ImageOptions {
  /** Holds `blobs/`, `layers/`, `ingest/`, `images.json`; made if missing. */
  readonly directory: string
  /** This machine's platform unless given. */
  readonly platform?: Platform
  readonly limits?: UnpackLimits
}

const NEVER = new AbortController().signal

/** What a reference was found to mean. */
interface Target {
  readonly digest: Digest
  readonly generation: number
}

/** Implements {@link Images}. */
export class ImageStore implements Images, AsyncDisposable {
  readonly #log: Logger
  readonly #parts: ImageParts
  readonly #local: LocalImages
  readonly #fetcher: PeerFetcher | undefined
  readonly #lock = new CollectionLock()
  readonly #work = new SharedWork<ReadyImage>()
  /** Images that are ready; emptied by every collection. */
  readonly #ready = new Map<Digest, ReadyImage>()
  readonly #closing = new AbortController()

  private constructor(components: ImageComponents, parts: ImageParts) {
    const { peers } = components
    this.#log = components.log
    this.#parts = parts
    this.#local = new LocalImages(components.log, parts)
    if (peers === undefined) return
    this.#fetcher = new PeerFetcher({ ...components, peers }, parts.content)
    serveImages(peers, parts.content, this.#local)
  }

  /**
   * Opens the store, deletes what a crash left behind, and answers peers from then on.
   * @throws STORAGE_CORRUPT, STORAGE_FULL
   */
  static async open(components: ImageComponents, options: ImageOptions): Promise<ImageStore> {
    const { directory, limits = DEFAULT_UNPACK_LIMITS } = options
    await mkdir(directory, { recursive: true, mode: 0o700 })
    const parts: ImageParts = {
      content: await ContentStore.open(components, { directory }),
      layers: await LayerStore.open(components, { directory, limits }),
      tags: await TagTable.open(directory),
      host: options.platform ?? hostPlatform(),
    }
    const store = new ImageStore(components, parts)
    await store.#collect()
    return store
  }

  async ensure(
    reference: string,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<ReadyImage> {
    this.#checkOpen()
    const target = await this.#target(reference, options.signal)
    const ready = this.#ready.get(target.digest)
    if (ready !== undefined) return ready
    const prepare = (signal: AbortSignal): Promise<ReadyImage> =>
      this.#lock.shared(() => this.#prepare(reference, target, signal))
    try {
      return await this.#work.run(`image ${target.digest}`, prepare, options.signal)
    } catch (error) {
      if (isSwarmError(error, 'STORAGE_FULL')) await this.#collect()
      throw error
    }
  }

  async find(reference: string): Promise<ImageSummary | undefined> {
    const found = await this.#local.lookup(reference)
    return found === undefined ? undefined : this.#local.summary(found.digest)
  }

  async resolve(
    reference: string,
    options: { readonly signal?: AbortSignal } = {},
  ): ReturnType<Images['resolve']> {
    this.#checkOpen()
    const own = await this.#local.lookup(reference)
    const theirs = await this.#askPeers(reference, own, options.signal)
    if (theirs !== undefined && isNewer(theirs, own)) {
      return { digest: theirs.digest, platforms: theirs.platforms }
    }
    if (own === undefined) return undefined
    const platforms = availablePlatforms(await this.#local.tree(own.digest))
    return { digest: own.digest, platforms }
  }

  async list(): Promise<ImageSummary[]> {
    const summaries: ImageSummary[] = []
    for (const digest of this.#parts.tags.images()) {
      const summary = await this.#local.summary(digest)
      if (summary !== undefined) summaries.push(summary)
    }
    return summaries.toSorted((a, b) => compareText(b.createdAt, a.createdAt))
  }

  async *load(
    tar: AsyncIterable<Uint8Array>,
    options: { readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<string, void> {
    this.#checkOpen()
    const generationOf = (name: string): Promise<number> => this.#generationOf(name)
    const signals = [
      this.#closing.signal,
      ...(options.signal === undefined ? [] : [options.signal]),
    ]
    const signal = AbortSignal.any(signals)
    try {
      const lines = await this.#lock.shared(() =>
        loadArchive(this.#parts, this.#local, tar, { signal, generationOf }),
      )
      this.#log.info({ lines }, 'images loaded')
      yield* lines
    } catch (error) {
      await this.#collect()
      throw error
    }
  }

  async remove(
    reference: string,
    options: { readonly force?: boolean; readonly inUse?: ReadonlySet<string> } = {},
  ): Promise<{ readonly untagged: readonly string[]; readonly deleted: readonly string[] }> {
    this.#checkOpen()
    const found = await this.#local.lookup(reference)
    if (found === undefined)
      throw new SwarmError('NOT_FOUND', `image "${reference}": no such image`)
    const tree = (await this.#local.maybeTree(found.digest)) ?? unreadableTree(found.digest)
    const plan = planRemoval({ reference, found, tree, tags: this.#parts.tags, ...options })
    await this.#parts.tags.write(() => ({
      removeTags: plan.names,
      ...(plan.deletes && { removeImages: [tree.digest] }),
    }))
    const deleted = plan.deletes ? [this.#local.shown(tree)?.manifest.config.digest] : []
    if (plan.deletes) await this.#collect()
    return {
      untagged: plan.names.map(familiar),
      deleted: deleted.filter((id) => id !== undefined),
    }
  }

  /** Stops all work; a running load ends at its next bytes. Content stays. */
  async close(): Promise<void> {
    this.#closing.abort(new SwarmError('SHUTTING_DOWN', 'images: the store is closed'))
    await this.#work.close()
    await this.#parts.layers.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** Which digest `ensure` is to make ready. */
  async #target(reference: string, signal?: AbortSignal): Promise<Target> {
    const pinned = maybeReference(reference)?.digest
    if (pinned !== undefined) return { digest: pinned, generation: 0 }
    const own = await this.#local.lookup(reference)
    if (own !== undefined && own.tag?.isLearned !== true)
      return { digest: own.digest, generation: 0 }
    const theirs = await this.#askPeers(reference, own, signal)
    if (theirs !== undefined && isNewer(theirs, own)) return theirs
    if (own !== undefined) return { digest: own.digest, generation: own.tag?.generation ?? 0 }
    // Says what is wrong with a malformed reference rather than that nobody has it.
    parseReference(reference)
    throw notFound(`image "${reference}"`)
  }

  /** Peers' best answer. With an answer of our own their silence is no error. */
  async #askPeers(
    reference: string,
    own: LocalImage | undefined,
    signal: AbortSignal = NEVER,
  ): ReturnType<PeerFetcher['resolve']> {
    if (this.#fetcher === undefined) return undefined
    if (own === undefined) return this.#fetcher.resolve(reference, signal)
    // An id or a digest means the same everywhere.
    if (own.tag === undefined) return undefined
    try {
      return await this.#fetcher.resolve(reference, signal, true)
    } catch (error) {
      if (isSwarmError(error, 'UNAVAILABLE')) return undefined
      throw error
    }
  }

  /** How often a name was given elsewhere, as far as peers answer. */
  async #generationOf(name: string): Promise<number> {
    if (this.#fetcher === undefined) return 0
    try {
      return (await this.#fetcher.resolve(name, NEVER, true))?.generation ?? 0
    } catch (error) {
      if (isSwarmError(error, 'UNAVAILABLE')) return 0
      throw error
    }
  }

  async #prepare(reference: string, target: Target, signal: AbortSignal): Promise<ReadyImage> {
    const { digest } = target
    const isFetched = await this.#maybeFetch(reference, digest, signal)
    const image = imageForHost(await this.#local.tree(digest), this.#parts.host)
    if (image === undefined) throw noPlatform(`image "${reference}"`, this.#parts.host)
    await this.#unpack(image, signal)
    if (isFetched) await this.#learn(reference, target)
    const ready = this.#local.ready(image)
    this.#ready.set(digest, ready)
    return ready
  }

  /** Fetches what this host needs and does not have. Returns whether anything was missing. */
  async #maybeFetch(reference: string, digest: Digest, signal: AbortSignal): Promise<boolean> {
    const subject = `image "${reference}"`
    const { content, host } = this.#parts
    const tree = content.has(digest) ? await this.#local.maybeTree(digest) : undefined
    const isHere = tree !== undefined && imageForHost(tree, host) !== undefined
    const isKnown = (await this.#local.lookup(digest)) !== undefined
    if (isHere) return !isKnown
    if (this.#fetcher === undefined) {
      throw tree === undefined ? notFound(subject) : noPlatform(subject, host)
    }
    await fetchImage({ fetcher: this.#fetcher, content, host, subject, signal }, digest)
    this.#local.forget()
    return true
  }

  /** Unpacks; a blob that has rotted on disk is fetched once more. */
  async #unpack(image: PlatformImage, signal: AbortSignal): Promise<void> {
    try {
      await unpackImage(this.#parts, image, signal)
    } catch (error) {
      if (!isSwarmError(error, 'STORAGE_CORRUPT') || this.#fetcher === undefined) throw error
      this.#log.warn({ image: image.digest, err: error }, 'damaged layer is fetched again')
      for (const layer of image.manifest.layers) {
        const diffId = image.config.rootfs.diff_ids[image.manifest.layers.indexOf(layer)]
        if (diffId !== undefined && this.#parts.layers.has(diffId)) continue
        await this.#parts.content.delete(layer.digest)
        await this.#fetcher.fetchBlob(layer.digest, layer.size, signal)
      }
      await unpackImage(this.#parts, image, signal)
    }
  }

  /** Registers a fetched image, and its name unless that was given here to something else. */
  async #learn(reference: string, { digest, generation }: Target): Promise<void> {
    const parsed = maybeReference(reference)
    const isNamed =
      parsed !== undefined && (parsed.tag !== undefined || parsed.digest === undefined)
    const name = isNamed ? canonicalTag(parsed) : undefined
    await this.#parts.tags.write((table) => {
      const isGiven = name !== undefined && table.tags().get(name)?.isLearned === false
      if (name === undefined || isGiven) return { addImages: [digest] }
      const tag = { digest, generation, isLearned: true }
      return { addImages: [digest], setTags: new Map([[name, tag]]) }
    })
  }

  async #collect(): Promise<void> {
    await this.#lock.exclusive(async () => {
      this.#ready.clear()
      this.#local.forget()
      try {
        await collectGarbage(this.#parts, this.#local, this.#log)
      } catch (error) {
        // An image that cannot be read is reported where it is used; here it keeps its garbage.
        if (!isSwarmError(error)) throw error
        this.#log.warn({ err: error }, 'image garbage could not be collected')
      }
    })
  }

  #checkOpen(): void {
    if (this.#closing.signal.aborted)
      throw new SwarmError('SHUTTING_DOWN', 'images: the store is closed')
  }
}

/** Stands for an image whose documents are damaged, so that it can be removed. */
function unreadableTree(digest: Digest): ImageTree {
  return { digest, isIndex: false, indexes: [], images: [], absent: [] }
}

/** Whether a peer's answer is to be preferred to this node's own. */
function isNewer(
  theirs: { readonly isLearned: boolean; readonly generation: number },
  own: LocalImage | undefined,
): boolean {
  if (own?.tag === undefined) return own === undefined
  if (theirs.isLearned !== own.tag.isLearned) return own.tag.isLearned
  return theirs.generation > own.tag.generation
}

function compareText(a: string, b: string): number {
  if (a === b) return 0
  return a < b ? -1 : 1
}
