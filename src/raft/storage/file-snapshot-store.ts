/**
 * Snapshots as files: `<term>-<index>-<serial>.snap` in one directory. Nothing is visible before
 * it is whole: write `….tmp`, fsync, rename, fsync the directory (hashicorp/raft
 * `file_snapshot.go` does the same). Two generations stay, and those that someone reads or has
 * pinned, so that a transfer is not cut short by a newer snapshot (`reference/raft.md` bug 15).
 * Beside them at most one partial snapshot lies there (`partial-snapshot-file.ts`), until it is
 * whole, another is received, or this member has a snapshot that is not older.
 */
import { createHash } from 'node:crypto'
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { SwarmError, errorText, isSwarmError } from '../../base/errors.ts'
import { silentLogger, type Logger } from '../../base/log.ts'
import type { SnapshotMetadata } from '../core/entry.ts'
import { FilePartialSink, FileSink } from './file-snapshot-sinks.ts'
import { MARKS_SUFFIX, PARTIAL_SUFFIX, PartialSnapshotFile } from './partial-snapshot-file.ts'
import type {
  PartialSink,
  SnapshotIdentity,
  SnapshotPin,
  SnapshotSink,
  SnapshotStore,
  StoredSnapshot,
} from './ports.ts'
import { encodeHeader, readContent, readFrame } from './snapshot-file.ts'
import { SnapshotPins, newestFirst, serialOf } from './snapshot-generations.ts'
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
  /** Those that are read or pinned are not deleted. */
  readonly #pins = new SnapshotPins()
  /** Name of the partial snapshot that is being written. */
  #receiving: string | undefined
  /** Who writes to it, or wrote last. */
  #partial: PartialSink | undefined

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
      await this.#dropPartials((name) => indexOf(name) <= this.#newestIndex)
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
      const frame = await readFrame(file, id)
      const { metadata, membership, sizeBytes } = frame
      const digest = frame.digest ?? (await digestOfContent(readContent(file, frame, { name: id })))
      return { id, metadata, membership, sizeBytes, digest }
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
        publish: (sizeBytes, digest) =>
          this.#publish(unfinished, { id, metadata, membership, sizeBytes, digest }),
        discard: () => rm(unfinished, { force: true }),
      })
      await sink.begin(encodeHeader(metadata, membership))
      return sink
    } catch (error) {
      throw asStorageError(`snapshot ${id}`, error)
    }
  }

  async resume(identity: SnapshotIdentity): Promise<PartialSink> {
    if (this.#receiving !== undefined) {
      throw new SwarmError('FAILED_PRECONDITION', 'snapshot: another one is being received')
    }
    const { term, index } = identity.metadata
    const name = `${term}-${index}-${identity.digest}`
    this.#receiving = name
    try {
      await this.#dropPartials((each) => each !== name)
      const path = join(this.#directory, name)
      const file = await PartialSnapshotFile.open(path, identity)
      const sink = new FilePartialSink(file, {
        publish: () => this.#publishPartial(path + PARTIAL_SUFFIX, identity),
        released: () => this.#released(),
      })
      this.#partial = sink
      return sink
    } catch (error) {
      this.#receiving = undefined
      throw asStorageError(`snapshot ${name}`, error)
    }
  }

  async list(): Promise<readonly StoredSnapshot[]> {
    return this.#snapshots
  }

  pin(id: string): SnapshotPin {
    if (!this.#snapshots.some((each) => each.id === id)) {
      throw new SwarmError('NOT_FOUND', `snapshot ${id}: does not exist`)
    }
    this.#pins.add(id)
    let isHeld = true
    return {
      release: async () => {
        if (!isHeld) return
        isHeld = false
        if (this.#pins.remove(id)) await this.#reap()
      },
    }
  }

  async *read(id: string, offset = 0): AsyncGenerator<Uint8Array> {
    const pin = this.pin(id)
    try {
      const file = await open(this.#path(id), 'r')
      try {
        yield* readContent(file, await readFrame(file, id), { name: id, offset })
      } finally {
        await file.close()
      }
    } finally {
      await pin.release()
    }
  }

  async close(): Promise<void> {
    await this.#partial?.suspend()
  }

  get #newestIndex(): number {
    return this.#snapshots[0]?.metadata.index ?? 0
  }

  async #publish(from: string, stored: StoredSnapshot): Promise<StoredSnapshot> {
    await rename(from, this.#path(stored.id))
    await syncDirectory(this.#directory)
    this.#snapshots = [stored, ...this.#snapshots].toSorted(newestFirst)
    await this.#reap()
    return stored
  }

  #publishPartial(from: string, identity: SnapshotIdentity): Promise<StoredSnapshot> {
    this.#serial += 1
    const { metadata, membership, sizeBytes, digest } = identity
    const id = `${metadata.term}-${metadata.index}-${this.#serial}`
    return this.#publish(from, { id, metadata, membership, sizeBytes, digest })
  }

  async #released(): Promise<void> {
    this.#receiving = undefined
    await this.#dropPartials((name) => indexOf(name) <= this.#newestIndex)
  }

  /** Deletes the partial snapshots that `isUnwanted` names, but not one that is being written. */
  async #dropPartials(isUnwanted: (name: string) => boolean): Promise<void> {
    for (const each of await readdir(this.#directory)) {
      const suffix = [PARTIAL_SUFFIX, MARKS_SUFFIX].find((one) => each.endsWith(one))
      if (suffix === undefined) continue
      const name = each.slice(0, -suffix.length)
      if (name === this.#receiving || !isUnwanted(name)) continue
      await rm(join(this.#directory, each), { force: true })
    }
  }

  async #reap(): Promise<void> {
    const surplus = this.#pins.surplus(this.#snapshots)
    this.#snapshots = this.#snapshots.filter((each) => !surplus.includes(each))
    for (const { id } of surplus) await rm(this.#path(id), { force: true })
    await this.#dropPartials((name) => indexOf(name) <= this.#newestIndex)
  }

  #path(id: string): string {
    return join(this.#directory, id + SUFFIX)
  }
}

/** The position in the name of a partial snapshot; 0 when the name is none. */
function indexOf(name: string): number {
  return Number(name.split('-')[1]) || 0
}

async function digestOfContent(content: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of content) hash.update(chunk)
  return hash.digest('hex')
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
