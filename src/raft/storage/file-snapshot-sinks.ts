/** The two ways in which `FileSnapshotStore` takes bytes: a new snapshot, and one in parts. */
import { createHash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { SwarmError } from '../../base/errors.ts'
import type { PartialSnapshotFile } from './partial-snapshot-file.ts'
import type { PartialSink, SnapshotSink, StoredSnapshot } from './ports.ts'
import { encodeFooter } from './snapshot-file.ts'
import { asStorageError } from './storage-error.ts'

/** What becomes of a file that is written. */
export interface FileSinkActions {
  /** Gives the whole, durable file its name. */
  readonly publish: (sizeBytes: number, digest: string) => Promise<StoredSnapshot>
  readonly discard: () => Promise<void>
}

/** A snapshot being written. `file` is open until `commit` or `cancel`. */
export class FileSink implements SnapshotSink {
  readonly #file: FileHandle
  readonly #actions: FileSinkActions
  #sizeBytes = 0
  #checksum = 0
  readonly #hash = createHash('sha256')
  #finished = false

  constructor(file: FileHandle, actions: FileSinkActions) {
    this.#file = file
    this.#actions = actions
  }

  /** Writes what precedes the content; leaves nothing behind when it fails. */
  async begin(header: Uint8Array): Promise<void> {
    try {
      await this.#file.writeFile(header)
    } catch (error) {
      await this.cancel()
      throw error
    }
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#checksum = crc32(chunk, this.#checksum)
    this.#hash.update(chunk)
    this.#sizeBytes += chunk.length
    await guarded(() => this.#file.writeFile(chunk))
  }

  async commit(): Promise<StoredSnapshot> {
    if (this.#finished) throw new SwarmError('ABORTED', 'snapshot: was cancelled')
    return guarded(async () => {
      const digest = this.#hash.digest('hex')
      await this.#file.writeFile(encodeFooter(this.#sizeBytes, this.#checksum, digest))
      await this.#file.sync()
      this.#finished = true
      await this.#file.close()
      return this.#actions.publish(this.#sizeBytes, digest)
    })
  }

  async cancel(): Promise<void> {
    if (this.#finished) return
    this.#finished = true
    await this.#file.close()
    await this.#actions.discard()
  }
}

/** What becomes of a partial snapshot. */
export interface FilePartialActions {
  /** Gives the whole, durable file its name. */
  readonly publish: () => Promise<StoredSnapshot>
  /** Nobody writes to it any more. */
  readonly released: () => Promise<void>
}

/** A partial snapshot being written. `file` is open until `commit` or `suspend`. */
export class FilePartialSink implements PartialSink {
  readonly #file: PartialSnapshotFile
  readonly #actions: FilePartialActions
  #status: 'open' | 'ended' = 'open'

  constructor(file: PartialSnapshotFile, actions: FilePartialActions) {
    this.#file = file
    this.#actions = actions
  }

  get offset(): number {
    return this.#file.sizeBytes
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#checkOpen()
    await guarded(() => this.#file.write(chunk))
  }

  async commit(): Promise<StoredSnapshot> {
    this.#checkOpen()
    return guarded(async () => {
      await this.#file.finish()
      this.#status = 'ended'
      const stored = await this.#actions.publish()
      await this.#actions.released()
      return stored
    })
  }

  async suspend(): Promise<void> {
    if (this.#status === 'ended') return
    this.#status = 'ended'
    await guarded(async () => {
      await this.#file.close()
      await this.#actions.released()
    })
  }

  #checkOpen(): void {
    if (this.#status !== 'open') throw new SwarmError('ABORTED', 'snapshot: was suspended')
  }
}

async function guarded<T>(action: () => Promise<T>): Promise<T> {
  try {
    return await action()
  } catch (error) {
    throw asStorageError('snapshot', error)
  }
}
