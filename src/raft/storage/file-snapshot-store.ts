/**
 * Snapshots as files: `<term>-<index>-<serial>.snap` in one directory. Nothing is visible before
 * it is whole: write `….tmp`, fsync, rename, fsync the directory (hashicorp/raft
 * `file_snapshot.go` does the same). Two generations stay, and those that someone reads
 * (`#readers`), so that a transfer is not cut short by a newer snapshot (`reference/raft.md` bug
 * 15).
 */
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { SwarmError, errorText, isSwarmError } from '../../base/errors.ts'
import { silentLogger, type Logger } from '../../base/log.ts'
import type { SnapshotMetadata } from '../core/entry.ts'
import type { SnapshotSink, SnapshotStore, StoredSnapshot } from './ports.ts'
import { encodeFooter, encodeHeader, readContent, readFrame } from './snapshot-file.ts'
import { SNAPSHOT_GENERATIONS, newestFirst, serialOf, skipBytes } from './snapshot-generations.ts'
import { asStorageError } from './storage-error.ts'

const SUFFIX = '.snap'
const UNFINISHED_SUFFIX = '.tmp'

/** Where the snapshots live. */
export interface FileSnapshotStoreOptions {
  /** A directory of the snapshots' own; made when missing. */
  readonly directory: string
  readonly log?: Logger
}

/** `SnapshotStore` on files. */
export class FileSnapshotStore implements SnapshotStore {
  readonly #directory: string
  readonly #log: Logger
  #snapshots: readonly StoredSnapshot[] = []
  #serial = 0
  /** How many reads of each snapshot run; those are not deleted. */
  readonly #readers = new Map<string, number>()

  constructor({ directory, log = silentLogger }: FileSnapshotStoreOptions) {
    this.#directory = directory
    this.#log = log
  }

  async open(): Promise<void> {
    try {
      await mkdir(this.#directory, { recursive: true })
      const names = await readdir(this.#directory)
      for (const name of names.filter((each) => each.endsWith(UNFINISHED_SUFFIX))) {
        await rm(join(this.#directory, name))
      }
      await this.#load(names.filter((each) => each.endsWith(SUFFIX)))
    } catch (error) {
      throw asStorageError('snapshots', error)
    }
  }

  async #load(names: readonly string[]): Promise<void> {
    const found: StoredSnapshot[] = []
    for (const name of names) {
      const id = name.slice(0, -SUFFIX.length)
      this.#serial = Math.max(this.#serial, serialOf(id) || 0)
      const stored = await this.#describe(id)
      if (stored !== undefined) found.push(stored)
    }
    this.#snapshots = found.toSorted(newestFirst)
  }

  /** `undefined` when the file is damaged: an older generation may do, the caller decides. */
  async #describe(id: string): Promise<StoredSnapshot | undefined> {
    const file = await open(this.#path(id), 'r')
    try {
      const { metadata, membership, sizeBytes } = await readFrame(file, id)
      return { id, metadata, membership, sizeBytes }
    } catch (error) {
      if (!isSwarmError(error, 'STORAGE_CORRUPT')) throw error
      this.#log.error({ snapshot: id, err: errorText(error) }, 'snapshot is damaged')
      return undefined
    } finally {
      await file.close()
    }
  }

  async create(metadata: SnapshotMetadata, membership: Uint8Array): Promise<SnapshotSink> {
    this.#serial += 1
    const id = `${metadata.term}-${metadata.index}-${this.#serial}`
    const unfinished = this.#path(id) + UNFINISHED_SUFFIX
    try {
      const file = await open(unfinished, 'wx')
      const sink = new FileSink(file, {
        publish: (sizeBytes) => this.#publish({ id, metadata, membership, sizeBytes }),
        discard: () => rm(unfinished, { force: true }),
      })
      await sink.begin(encodeHeader(metadata, membership))
      return sink
    } catch (error) {
      throw asStorageError(`snapshot ${id}`, error)
    }
  }

  async list(): Promise<readonly StoredSnapshot[]> {
    return this.#snapshots
  }

  async *read(id: string, offset = 0): AsyncGenerator<Uint8Array> {
    if (!this.#snapshots.some((each) => each.id === id)) {
      throw new SwarmError('NOT_FOUND', `snapshot ${id}: does not exist`)
    }
    this.#readers.set(id, (this.#readers.get(id) ?? 0) + 1)
    try {
      const file = await open(this.#path(id), 'r')
      try {
        yield* skipBytes(readContent(file, await readFrame(file, id), id), offset)
      } finally {
        await file.close()
      }
    } finally {
      await this.#unpin(id)
    }
  }

  async close(): Promise<void> {}

  async #publish(stored: StoredSnapshot): Promise<StoredSnapshot> {
    const path = this.#path(stored.id)
    await rename(path + UNFINISHED_SUFFIX, path)
    await syncDirectory(this.#directory)
    this.#snapshots = [stored, ...this.#snapshots].toSorted(newestFirst)
    await this.#reap()
    return stored
  }

  async #unpin(id: string): Promise<void> {
    const readers = (this.#readers.get(id) ?? 1) - 1
    if (readers > 0) {
      this.#readers.set(id, readers)
      return
    }
    this.#readers.delete(id)
    await this.#reap()
  }

  async #reap(): Promise<void> {
    const surplus = this.#snapshots
      .slice(SNAPSHOT_GENERATIONS)
      .filter(({ id }) => !this.#readers.has(id))
    this.#snapshots = this.#snapshots.filter((each) => !surplus.includes(each))
    for (const { id } of surplus) await rm(this.#path(id), { force: true })
  }

  #path(id: string): string {
    return join(this.#directory, id + SUFFIX)
  }
}

interface FileSinkActions {
  readonly publish: (sizeBytes: number) => Promise<StoredSnapshot>
  readonly discard: () => Promise<void>
}

/** A snapshot being written. `file` is open until `commit` or `cancel`. */
class FileSink implements SnapshotSink {
  readonly #file: FileHandle
  readonly #actions: FileSinkActions
  #sizeBytes = 0
  #checksum = 0
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
    this.#sizeBytes += chunk.length
    await this.#guarded(() => this.#file.writeFile(chunk))
  }

  async commit(): Promise<StoredSnapshot> {
    if (this.#finished) throw new SwarmError('ABORTED', 'snapshot: was cancelled')
    return this.#guarded(async () => {
      await this.#file.writeFile(encodeFooter(this.#sizeBytes, this.#checksum))
      await this.#file.sync()
      this.#finished = true
      await this.#file.close()
      return this.#actions.publish(this.#sizeBytes)
    })
  }

  async cancel(): Promise<void> {
    if (this.#finished) return
    this.#finished = true
    await this.#file.close()
    await this.#actions.discard()
  }

  async #guarded<T>(action: () => Promise<T>): Promise<T> {
    try {
      return await action()
    } catch (error) {
      throw asStorageError('snapshot', error)
    }
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
