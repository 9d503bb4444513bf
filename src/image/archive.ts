/**
 * The outer tar of a `load`, staged: every file becomes a blob in `ingest/`, hashed while it comes.
 * So nothing is trusted by name, nothing is kept in memory, and nothing is in the store before the
 * whole archive was understood.
 */
import { SwarmError, isSwarmError } from '../base/errors.ts'
import type { ContentStore, StagedBlob } from './content-store.ts'
import type { Digest } from './digest.ts'
import { expanded } from './expansion.ts'
import type { BlobReader } from './image-tree.ts'
import { withdrawn } from './shared-work.ts'
import { TarReader } from './tar-reader.ts'
import type { TarEntry } from './tar-header.ts'

/** Members of one archive: images × layers × three files. */
const MAX_ARCHIVE_ENTRIES = 20_000
/** Uncompressed bytes of one archive. */
const MAX_ARCHIVE_BYTES = 64 * 2 ** 30
/** Links from member to member (old docker-archives share layers so). */
const MAX_LINKS = 16

/** A staged archive. Ends by {@link discard}, which spares what was committed. */
export class Archive implements BlobReader {
  readonly #store: ContentStore
  readonly #files = new Map<string, StagedBlob>()
  readonly #links = new Map<string, string>()
  readonly #byDigest = new Map<Digest, StagedBlob>()
  /** Everything that was staged: a path may occur twice. */
  readonly #blobs = new Set<StagedBlob>()

  private constructor(store: ContentStore) {
    this.#store = store
  }

  /** Reads the whole tar. @throws INVALID_ARGUMENT, RESOURCE_EXHAUSTED, STORAGE_FULL, ABORTED */
  static async stage(
    store: ContentStore,
    tar: AsyncIterable<Uint8Array>,
    signal?: AbortSignal,
  ): Promise<Archive> {
    const archive = new Archive(store)
    try {
      await archive.#read(tar, signal)
      return archive
    } catch (error) {
      await archive.discard()
      if (!isSwarmError(error, 'INVALID_ARGUMENT')) throw error
      throw new SwarmError('INVALID_ARGUMENT', `image archive: ${error.message}`, { cause: error })
    }
  }

  /** The staged file at `path`, links inside the archive followed. */
  file(path: string): StagedBlob | undefined {
    let target = memberPath(path)
    for (let step = 0; step < MAX_LINKS; step++) {
      const blob = this.#files.get(target)
      const link = this.#links.get(target)
      if (blob !== undefined || link === undefined) return blob
      target = link
    }
    return undefined
  }

  /** The content of a small file. @throws INVALID_ARGUMENT when it is too large */
  async text(path: string): Promise<Uint8Array | undefined> {
    const blob = this.file(path)
    return blob === undefined ? undefined : documentOf(blob, path)
  }

  /** Adds a document that was made here. */
  async add(bytes: Uint8Array): Promise<Digest> {
    const blob = await this.#stage()
    await blob.append(bytes)
    await this.#end(blob)
    return blob.digest
  }

  sizeOf(digest: Digest): number | undefined {
    return this.#byDigest.get(digest)?.sizeBytes ?? this.#store.sizeOf(digest)
  }

  document(digest: Digest): Promise<Uint8Array> {
    const blob = this.#byDigest.get(digest)
    return blob === undefined ? this.#store.document(digest) : documentOf(blob, `blob ${digest}`)
  }

  /** Takes a blob over into the store; returns false if it had it. */
  async commit(digest: Digest): Promise<boolean> {
    const blob = this.#byDigest.get(digest)
    if (blob === undefined || this.#store.has(digest)) return false
    await this.#store.commit(blob)
    return true
  }

  /** Deletes everything that was not committed. */
  async discard(): Promise<void> {
    for (const blob of this.#blobs) await blob.discard()
  }

  async #read(tar: AsyncIterable<Uint8Array>, signal?: AbortSignal): Promise<void> {
    const reader = new TarReader({ maxEntries: MAX_ARCHIVE_ENTRIES })
    const limits = { subject: 'content', maxOutputBytes: MAX_ARCHIVE_BYTES }
    let open: StagedBlob | undefined
    for await (const chunk of expanded(tar, limits)) {
      if (signal?.aborted === true) throw withdrawn('image archive', signal)
      for (const event of reader.push(chunk)) {
        if (event.type === 'entry') open = await this.#begin(event.entry)
        else if (event.type === 'data') await open?.append(event.bytes)
        else open = await this.#end(open)
      }
    }
    reader.finish()
  }

  async #begin(entry: TarEntry): Promise<StagedBlob | undefined> {
    const path = memberPath(Buffer.from(entry.path, 'latin1').toString('utf8'))
    const link = Buffer.from(entry.linkPath, 'latin1').toString('utf8')
    if (entry.type === 'hardlink') this.#links.set(path, memberPath(link))
    if (entry.type === 'symlink') {
      const folder = path.slice(0, path.lastIndexOf('/') + 1)
      this.#links.set(path, memberPath(folder + link))
    }
    if (entry.type !== 'file') return undefined
    const blob = await this.#stage()
    this.#files.set(path, blob)
    return blob
  }

  async #stage(): Promise<StagedBlob> {
    const blob = await this.#store.stage()
    this.#blobs.add(blob)
    return blob
  }

  async #end(blob: StagedBlob | undefined): Promise<undefined> {
    if (blob === undefined) return
    await blob.seal()
    if (!this.#byDigest.has(blob.digest)) this.#byDigest.set(blob.digest, blob)
  }
}

async function documentOf(blob: StagedBlob, subject: string): Promise<Uint8Array> {
  const bytes = await blob.document()
  if (bytes !== undefined) return bytes
  throw new SwarmError('INVALID_ARGUMENT', `${subject}: too large for a document`)
}

/** `./a//b/../c` → `a/c`; members cannot climb above the archive. */
function memberPath(path: string): string {
  const parts: string[] = []
  for (const part of path.split('/')) {
    if (part === '..') parts.pop()
    else if (part !== '' && part !== '.') parts.push(part)
  }
  return parts.join('/')
}
