/**
 * What this node knows about its own images: references to digests, digests to trees, trees to what
 * the API and the agent want to read. Reads only; `image-store.ts` changes things.
 */
import { SwarmError, isSwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { ContentStore } from './content-store.ts'
import { digestHex, isDigest } from './digest.ts'
import type { Digest } from './digest.ts'
import { imageForHost, readImageTree } from './image-tree.ts'
import type { ImageTree, PlatformImage } from './image-tree.ts'
import type { LayerStore } from './layer-store.ts'
import type { Platform } from './platform.ts'
import type { ImageSummary, ReadyImage } from './ports.ts'
import { canonicalTag, familiar, maybeReference } from './reference.ts'
import type { Tag, TagTable } from './tag-table.ts'

/** The parts that hold images. */
export interface ImageParts {
  readonly content: ContentStore
  readonly layers: LayerStore
  readonly tags: TagTable
  readonly host: Platform
}

/** What a reference means here. */
export interface LocalImage {
  /** Index or manifest. */
  readonly digest: Digest
  /** Canonical name and its tag, when the reference was a name. */
  readonly name?: string
  readonly tag?: Tag
}

/** Shown where a config names no date, as Docker does. */
const NO_DATE = '0001-01-01T00:00:00Z'
const ID_FORM = /^(?:sha256:)?[0-9a-f]{1,64}$/

/** Lookups over one node's images. */
export class LocalImages {
  readonly #log: Logger
  readonly #parts: ImageParts
  readonly #trees = new Map<Digest, ImageTree>()

  constructor(log: Logger, parts: ImageParts) {
    this.#log = log
    this.#parts = parts
  }

  /** The tree below an image's digest; read once, then remembered. */
  async tree(digest: Digest): Promise<ImageTree> {
    const known = this.#trees.get(digest)
    if (known !== undefined) return known
    const tree = await readImageTree(this.#parts.content, digest)
    this.#trees.set(digest, tree)
    return tree
  }

  /** As {@link tree}; undefined when a document on the way is damaged or gone. */
  async maybeTree(digest: Digest): Promise<ImageTree | undefined> {
    try {
      return await this.tree(digest)
    } catch (error) {
      if (isSwarmError(error, 'STORAGE_CORRUPT') || isSwarmError(error, 'NOT_FOUND')) {
        this.#log.warn({ image: digest, err: error }, 'image cannot be read')
        return undefined
      }
      throw error
    }
  }

  /** To be called when content came or went. */
  forget(): void {
    this.#trees.clear()
  }

  /** @throws INVALID_ARGUMENT when an id prefix fits several images */
  async lookup(reference: string): Promise<LocalImage | undefined> {
    const parsed = maybeReference(reference)
    if (parsed?.digest !== undefined) return this.#byDigest(parsed.digest)
    const name = parsed === undefined ? undefined : canonicalTag(parsed)
    const tag = name === undefined ? undefined : this.#parts.tags.tags().get(name)
    if (name !== undefined && tag !== undefined) return { digest: tag.digest, name, tag }
    return ID_FORM.test(reference) ? this.#byId(reference) : undefined
  }

  /** One line of a listing; undefined for an image that is damaged. */
  async summary(digest: Digest): Promise<ImageSummary | undefined> {
    const tree = await this.maybeTree(digest)
    const image = tree === undefined ? undefined : this.shown(tree)
    if (image === undefined) return undefined
    const { config } = image
    return {
      id: image.manifest.config.digest,
      digest,
      tags: this.#parts.tags.namesOf(digest).map(familiar),
      sizeBytes: this.#sizeOf(image),
      createdAt: config.created ?? NO_DATE,
      labels: config.config?.Labels ?? {},
      platform: image.platform,
    }
  }

  /** The image that stands for a tree: this host's, else the first that is whole. */
  shown(tree: ImageTree): PlatformImage | undefined {
    return imageForHost(tree, this.#parts.host) ?? tree.images.find((image) => image.isComplete)
  }

  /** What the container needs. All layers must be unpacked. */
  ready(image: PlatformImage): ReadyImage {
    return {
      digest: image.digest,
      layerDirectories: distinctLayers(image).map((diffId) => this.#parts.layers.filesOf(diffId)),
      config: readyConfig(image),
    }
  }

  async #byDigest(digest: Digest): Promise<LocalImage | undefined> {
    if (this.#parts.tags.images().has(digest)) return { digest }
    for (const root of this.#parts.tags.images()) {
      const tree = await this.maybeTree(root)
      const isBelow = tree?.images.some((image) => image.digest === digest) === true
      if (isBelow || tree?.indexes.includes(digest) === true) return { digest }
    }
    return undefined
  }

  async #byId(reference: string): Promise<LocalImage | undefined> {
    const prefix = isDigest(reference) ? digestHex(reference) : reference.replace(/^sha256:/, '')
    const found = new Set<Digest>()
    for (const root of this.#parts.tags.images()) {
      const images = (await this.maybeTree(root))?.images ?? []
      const ids = [root, ...images.map(({ manifest }) => manifest.config.digest)]
      if (ids.some((id) => digestHex(id).startsWith(prefix))) found.add(root)
    }
    if (found.size > 1) {
      throw new SwarmError('INVALID_ARGUMENT', `image "${reference}": the id prefix is ambiguous`)
    }
    const [digest] = found
    return digest === undefined ? undefined : { digest }
  }

  #sizeOf(image: PlatformImage): number {
    const { manifest, config } = image
    const sizes = config.rootfs.diff_ids.map(
      (diffId, index) => this.#parts.layers.sizeOf(diffId) ?? manifest.layers[index]?.size ?? 0,
    )
    return sizes.reduce((sum, size) => sum + size, 0)
  }
}

/**
 * Layers lowest first, each once: overlayfs refuses a directory twice. Of equal layers the topmost
 * counts: it holds all that the lower one does.
 */
export function distinctLayers(image: PlatformImage): Digest[] {
  const diffIds = image.config.rootfs.diff_ids
  return diffIds.filter((diffId, index) => diffIds.lastIndexOf(diffId) === index)
}

function readyConfig(image: PlatformImage): ReadyImage['config'] {
  const config = image.config.config ?? {}
  return {
    entrypoint: config.Entrypoint ?? [],
    command: config.Cmd ?? [],
    env: config.Env ?? [],
    workingDirectory: config.WorkingDir ?? '',
    user: config.User ?? '',
    ...(config.StopSignal && { stopSignal: config.StopSignal }),
    labels: config.Labels ?? {},
    volumes: Object.keys(config.Volumes ?? {}),
    exposedPorts: Object.keys(config.ExposedPorts ?? {}),
    ...(config.Healthcheck && { healthcheck: config.Healthcheck }),
    ...(config.Shell && config.Shell.length > 0 && { shell: config.Shell }),
  }
}
