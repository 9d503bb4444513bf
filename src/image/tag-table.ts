/**
 * The images and names of this node: `<directory>/images.json`, replaced as a whole, durably.
 *
 * A name is *given* here (by `load`) or *learned* (the image was fetched from a peer under that
 * name). A learned name may be out of date, so peers are asked before it is believed; it is the
 * answer when nobody can be reached. `generation` counts how often a name was given, as far as this
 * node knew, so that of two different answers the later one wins without any clock.
 */
import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { SwarmError } from '../base/errors.ts'
import { isDigest } from './digest.ts'
import type { Digest } from './digest.ts'
import { storageError, systemCode, writeFileDurably } from './durable-file.ts'

/** Where a name leads. */
export interface Tag {
  /** Index or manifest. */
  readonly digest: Digest
  readonly generation: number
  readonly isLearned: boolean
}

/** What one write changes. */
export interface TagChange {
  readonly addImages?: readonly Digest[]
  readonly removeImages?: readonly Digest[]
  readonly setTags?: ReadonlyMap<string, Tag>
  readonly removeTags?: readonly string[]
}

const FILE_NAME = 'images.json'
const VERSION = 1
const digestSchema = z.custom<Digest>(isDigest, 'must be a sha256 digest')
const fileSchema = z.object({
  version: z.literal(VERSION),
  images: z.array(digestSchema),
  tags: z.record(
    z.string(),
    z.object({ digest: digestSchema, generation: z.int().nonnegative(), isLearned: z.boolean() }),
  ),
})

/** The durable table. Reads are from memory; writes are serialised. */
export class TagTable {
  readonly #directory: string
  #images: ReadonlySet<Digest>
  #tags: ReadonlyMap<string, Tag>
  /** The write before, so that writes come one after the other. */
  #lastWrite: Promise<void> = Promise.resolve()

  private constructor(directory: string, file: z.infer<typeof fileSchema>) {
    this.#directory = directory
    this.#images = new Set(file.images)
    this.#tags = new Map(Object.entries(file.tags))
  }

  /** @throws STORAGE_CORRUPT when the file is not what was written */
  static async open(directory: string): Promise<TagTable> {
    let text: string
    try {
      text = await readFile(`${directory}/${FILE_NAME}`, 'utf8')
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw storageError(error, FILE_NAME)
      return new TagTable(directory, { version: VERSION, images: [], tags: {} })
    }
    try {
      return new TagTable(directory, fileSchema.parse(JSON.parse(text)))
    } catch (error) {
      throw new SwarmError('STORAGE_CORRUPT', `${FILE_NAME}: is damaged`, { cause: error })
    }
  }

  /** Digests of all images, tagged or not. */
  images(): ReadonlySet<Digest> {
    return this.#images
  }

  /** Canonical name → tag. */
  tags(): ReadonlyMap<string, Tag> {
    return this.#tags
  }

  /** Canonical names of one image, sorted. */
  namesOf(digest: Digest): string[] {
    const names = [...this.#tags].filter(([, tag]) => tag.digest === digest).map(([name]) => name)
    return names.toSorted()
  }

  /** Applies a change to what is then in force; durable when it resolves. @throws STORAGE_FULL */
  write(change: (table: TagTable) => TagChange): Promise<void> {
    const write = this.#lastWrite.then(() => this.#write(change(this)))
    this.#lastWrite = write.catch(() => undefined)
    return write
  }

  async #write(change: TagChange): Promise<void> {
    const images = new Set(this.#images)
    for (const digest of change.addImages ?? []) images.add(digest)
    for (const digest of change.removeImages ?? []) images.delete(digest)
    const tags = new Map(this.#tags)
    for (const [name, tag] of change.setTags ?? []) tags.set(name, tag)
    for (const name of change.removeTags ?? []) tags.delete(name)
    const file = { version: VERSION, images: [...images], tags: Object.fromEntries(tags) }
    await writeFileDurably(this.#directory, FILE_NAME, Buffer.from(JSON.stringify(file)))
    this.#images = images
    this.#tags = tags
  }
}
