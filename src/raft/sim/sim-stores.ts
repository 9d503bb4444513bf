/** The storage ports over a `SimDisk`, as one process sees them. */
import { assert } from '../../base/assert.ts'
import { SwarmError } from '../../base/errors.ts'
import type { Entry, HardState, Index, SnapshotMetadata } from '../core/entry.ts'
import type {
  AppendBatch,
  LogContents,
  LogStore,
  PartialSink,
  SnapshotIdentity,
  SnapshotPin,
  SnapshotSink,
  SnapshotStore,
  StoredSnapshot,
} from '../storage/ports.ts'
import { digestOf, notAsAnnounced, skipBytes } from '../storage/snapshot-generations.ts'
import type { HeldSnapshot, SimDisk } from './sim-disk.ts'
import type { Host } from './event.ts'

/** `LogStore` of one process. */
export class SimLogStore implements LogStore {
  readonly #disk: SimDisk
  readonly #host: Host

  constructor(disk: SimDisk, host: Host) {
    this.#disk = disk
    this.#host = host
  }

  async open(): Promise<LogContents> {
    const { hardState, base, lastIndex, tornEntries } = this.#disk
    return { hardState, base, lastIndex, tornEntries }
  }

  async read(low: Index, high: Index): Promise<readonly Entry[]> {
    const { base, entries, lastIndex } = this.#disk
    if (low >= high) return []
    assert(low > base.index && high <= lastIndex + 1, `[${low}, ${high}) is no range`)
    return entries.slice(low - base.index - 1, high - base.index - 1)
  }

  append(batch: AppendBatch): Promise<void> {
    return this.#disk.append(this.#host, batch)
  }

  compact(base: LogContents['base']): Promise<void> {
    return this.#disk.compact(this.#host, base)
  }

  reset(base: LogContents['base'], hardState: HardState): Promise<void> {
    return this.#disk.reset(this.#host, base, hardState)
  }

  async close(): Promise<void> {}
}

/** `SnapshotStore` of one process. */
export class SimSnapshotStore implements SnapshotStore {
  readonly #disk: SimDisk
  readonly #host: Host
  #receiving = false

  constructor(disk: SimDisk, host: Host) {
    this.#disk = disk
    this.#host = host
  }

  async open(): Promise<void> {}

  async create(metadata: SnapshotMetadata, membership: Uint8Array): Promise<SnapshotSink> {
    const chunks: Uint8Array[] = []
    let cancelled = false
    return {
      write: async (chunk) => {
        chunks.push(new Uint8Array(chunk))
      },
      commit: async () => {
        if (cancelled) throw new SwarmError('ABORTED', 'snapshot: was cancelled')
        const sizeBytes = chunks.reduce((sum, { length }) => sum + length, 0)
        const identity = { metadata, membership, sizeBytes, digest: digestOf(chunks) }
        return this.#disk.keepSnapshot(this.#host, identity, chunks)
      },
      cancel: async () => {
        cancelled = true
      },
    }
  }

  async resume(identity: SnapshotIdentity): Promise<PartialSink> {
    if (this.#receiving) {
      throw new SwarmError('FAILED_PRECONDITION', 'snapshot: another one is being received')
    }
    this.#receiving = true
    const disk = this.#disk
    const chunks = disk.takeUpPartial(identity)
    const end = (): void => {
      this.#receiving = false
    }
    return {
      get offset() {
        return chunks.reduce((sum, { length }) => sum + length, 0)
      },
      write: async (chunk) => {
        chunks.push(new Uint8Array(chunk))
      },
      commit: async () => {
        disk.dropPartial()
        end()
        if (digestOf(chunks) !== identity.digest) throw notAsAnnounced(identity)
        return disk.keepSnapshot(this.#host, identity, chunks)
      },
      suspend: async () => end(),
    }
  }

  async list(): Promise<readonly StoredSnapshot[]> {
    return this.#disk.snapshots.map(({ stored }) => stored)
  }

  pin(id: string): SnapshotPin {
    this.#find(id)
    return this.#disk.pin(id)
  }

  async *read(id: string, offset = 0): AsyncGenerator<Uint8Array> {
    const pin = this.pin(id)
    try {
      yield* skipBytes(this.#find(id).chunks, offset)
    } finally {
      await pin.release()
    }
  }

  async close(): Promise<void> {}

  #find(id: string): HeldSnapshot {
    const held = this.#disk.snapshots.find(({ stored }) => stored.id === id)
    if (held !== undefined) return held
    throw new SwarmError('NOT_FOUND', `snapshot ${id}: does not exist`)
  }
}
