/**
 * Blobs by digest: `<directory>/blobs/sha256/<hex>`, as in an OCI layout.
 *
 * Invariants: a file under `blobs/` is complete and was hashed while it was written; it is made by
 * write → fsync → rename → fsync of the directory; what is in `ingest/` belongs to a running
 * process or is rubbish of a crash, deleted on open. Everything else (manifests, tags, layers) can
 * be checked against these names.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, open, readFile, readdir, rename, rm, stat } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import type { Hash } from 'node:crypto'
import { SwarmError } from '../base/errors.ts'
import type { Random } from '../base/random.ts'
import { digestHex, digestOfHex, isDigest, sha256 } from './digest.ts'
import type { Digest } from './digest.ts'
import { storageError, syncPath, systemCode } from './durable-file.ts'

/** Largest blob that is read into memory: manifests, indexes, configs (Docker's limit is 4 MiB). */
export const MAX_DOCUMENT_BYTES = 4 << 20

/** Bytes of randomness in the name of a temporary file. */
const TEMPORARY_NAME_BYTES = 8

/** The blobs of this node. */
export class ContentStore {
  readonly #blobs: string
  readonly #ingest: string
  readonly #random: Random
  /** Size in bytes of each complete blob. */
  readonly #sizes = new Map<Digest, number>()

  private constructor(random: Random, directory: string) {
    this.#random = random
    this.#blobs = `${directory}/blobs/sha256`
    this.#ingest = `${directory}/ingest`
  }

  /** Opens the store, deletes what a crash left half-written. */
  static async open(
    { random }: { readonly random: Random },
    { directory }: { readonly directory: string },
  ): Promise<ContentStore> {
    const store = new ContentStore(random, directory)
    await rm(store.#ingest, { recursive: true, force: true })
    await mkdir(store.#ingest, { recursive: true, mode: 0o700 })
    await mkdir(store.#blobs, { recursive: true, mode: 0o700 })
    for (const name of await readdir(store.#blobs)) {
      const digest = digestOfHex(name)
      if (!isDigest(digest)) continue
      store.#sizes.set(digest, (await stat(store.#path(digest))).size)
    }
    return store
  }

  has(digest: Digest): boolean {
    return this.#sizes.has(digest)
  }

  /** Size in bytes, undefined if the blob is not here. */
  sizeOf(digest: Digest): number | undefined {
    return this.#sizes.get(digest)
  }

  /** All digests, in no order. */
  digests(): readonly Digest[] {
    return [...this.#sizes.keys()]
  }

  /**
   * Streams a blob from `offset`.
   * @yields its bytes, not verified: the reader hashes
   * @throws NOT_FOUND, INTERNAL
   */
  async *read(digest: Digest, offset = 0): AsyncGenerator<Uint8Array, void> {
    if (!this.has(digest)) throw missing(digest)
    const stream = createReadStream(this.#path(digest), { start: offset, highWaterMark: 1 << 18 })
    try {
      for await (const chunk of stream) yield chunk as Uint8Array
    } catch (error) {
      throw this.#readError(digest, error)
    }
  }

  /** A small blob, verified. @throws NOT_FOUND, INVALID_ARGUMENT (too large), STORAGE_CORRUPT */
  async document(digest: Digest): Promise<Uint8Array> {
    const size = this.#sizes.get(digest)
    if (size === undefined) throw missing(digest)
    if (size > MAX_DOCUMENT_BYTES) {
      throw new SwarmError('INVALID_ARGUMENT', `blob ${digest}: too large for a document`)
    }
    let bytes: Uint8Array
    try {
      bytes = await readFile(this.#path(digest))
    } catch (error) {
      throw this.#readError(digest, error)
    }
    if (sha256(bytes) !== digest) {
      throw new SwarmError('STORAGE_CORRUPT', `blob ${digest}: content does not match its digest`)
    }
    return bytes
  }

  /** A new blob, whose bytes come one by one. @throws STORAGE_FULL */
  async stage(): Promise<StagedBlob> {
    const name = Buffer.from(this.#random.bytes(TEMPORARY_NAME_BYTES)).toString('hex')
    const path = `${this.#ingest}/${name}`
    try {
      return new StagedBlob(path, await open(path, 'wx+', 0o600))
    } catch (error) {
      throw storageError(error, 'blob')
    }
  }

  /** Makes a staged blob part of the store, durably. @throws STORAGE_FULL */
  async commit(blob: StagedBlob): Promise<Digest> {
    const { digest, sizeBytes } = blob
    try {
      await blob.sync()
      await rename(blob.path, this.#path(digest))
      await syncPath(this.#blobs)
    } catch (error) {
      await blob.discard()
      throw storageError(error, `blob ${digest}`)
    }
    this.#sizes.set(digest, sizeBytes)
    return digest
  }

  /** Deletes a blob. Idempotent. */
  async delete(digest: Digest): Promise<void> {
    this.#sizes.delete(digest)
    await rm(this.#path(digest), { force: true })
  }

  #path(digest: Digest): string {
    return `${this.#blobs}/${digestHex(digest)}`
  }

  #readError(digest: Digest, error: unknown): SwarmError {
    if (systemCode(error) !== 'ENOENT') return storageError(error, `blob ${digest}`)
    this.#sizes.delete(digest)
    return missing(digest)
  }
}

/** Bytes on their way into the store. Ends by `ContentStore.commit` or {@link discard}. */
export class StagedBlob {
  readonly path: string
  readonly #handle: FileHandle
  readonly #hash: Hash = createHash('sha256')
  #sizeBytes = 0
  #digest: Digest | undefined
  #isOpen = true

  constructor(path: string, handle: FileHandle) {
    this.path = path
    this.#handle = handle
  }

  get sizeBytes(): number {
    return this.#sizeBytes
  }

  /** Digest of what was appended; nothing can be appended after this was asked. */
  get digest(): Digest {
    this.#digest ??= digestOfHex(this.#hash.digest('hex'))
    return this.#digest
  }

  /** Adds bytes at the end. @throws STORAGE_FULL */
  async append(bytes: Uint8Array): Promise<void> {
    this.#hash.update(bytes)
    this.#sizeBytes += bytes.length
    try {
      await this.#handle.writeFile(bytes)
    } catch (error) {
      throw storageError(error, 'blob')
    }
  }

  /** The content, if it is small enough for a document; else undefined. */
  async document(): Promise<Uint8Array | undefined> {
    if (this.#sizeBytes > MAX_DOCUMENT_BYTES) return undefined
    return readFile(this.path)
  }

  /** The first bytes. */
  async head(length: number): Promise<Uint8Array> {
    const handle = await open(this.path, 'r')
    try {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, 0)
      return buffer.subarray(0, bytesRead)
    } finally {
      await handle.close()
    }
  }

  /** Frees the file handle; the content stays, is complete, but not durable yet. */
  async seal(): Promise<void> {
    if (!this.#isOpen) return
    this.#isOpen = false
    await this.#handle.close()
  }

  /** Makes the content durable. */
  async sync(): Promise<void> {
    await this.seal()
    await syncPath(this.path)
  }

  /** Drops it. Idempotent. */
  async discard(): Promise<void> {
    await this.seal()
    await rm(this.path, { force: true })
  }
}

function missing(digest: Digest): SwarmError {
  return new SwarmError('NOT_FOUND', `blob ${digest}: not on this node`)
}
