/** Snapshots in memory: for tests and simulations. Keeps its contents over `close` and `open`. */
import { SwarmError } from '../../base/errors.ts'
import type { SnapshotMetadata } from '../core/entry.ts'
import type { SnapshotSink, SnapshotStore, StoredSnapshot } from './ports.ts'
import { SNAPSHOT_GENERATIONS, newestFirst, skipBytes } from './snapshot-generations.ts'

interface Held {
  readonly stored: StoredSnapshot
  readonly chunks: readonly Uint8Array[]
}

/** `SnapshotStore` without a disk. */
export class MemorySnapshotStore implements SnapshotStore {
  #held: readonly Held[] = []
  #made = 0

  async open(): Promise<void> {}

  async create(metadata: SnapshotMetadata, membership: Uint8Array): Promise<SnapshotSink> {
    const chunks: Uint8Array[] = []
    let cancelled = false
    return {
      write: async (chunk) => {
        chunks.push(chunk.slice())
      },
      commit: async () => {
        if (cancelled) throw new SwarmError('ABORTED', 'snapshot: was cancelled')
        return this.#keep(metadata, membership, chunks)
      },
      cancel: async () => {
        cancelled = true
      },
    }
  }

  async list(): Promise<readonly StoredSnapshot[]> {
    return this.#held.map(({ stored }) => stored)
  }

  async *read(id: string, offset = 0): AsyncGenerator<Uint8Array> {
    const held = this.#held.find(({ stored }) => stored.id === id)
    if (held === undefined) throw new SwarmError('NOT_FOUND', `snapshot ${id}: does not exist`)
    yield* skipBytes(held.chunks, offset)
  }

  async close(): Promise<void> {}

  #keep(
    metadata: SnapshotMetadata,
    membership: Uint8Array,
    chunks: readonly Uint8Array[],
  ): StoredSnapshot {
    this.#made += 1
    const sizeBytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0)
    const id = `${metadata.term}-${metadata.index}-${this.#made}`
    const stored = { id, metadata, membership, sizeBytes }
    const all = [{ stored, chunks }, ...this.#held]
    all.sort((a, b) => newestFirst(a.stored, b.stored))
    this.#held = all.slice(0, SNAPSHOT_GENERATIONS)
    return stored
  }
}
