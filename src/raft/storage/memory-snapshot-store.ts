/** Snapshots in memory: for tests and simulations. Keeps its contents over `close` and `open`. */
import { SwarmError } from '../../base/errors.ts'
import type { SnapshotMetadata } from '../core/entry.ts'
import type {
  PartialSink,
  SnapshotIdentity,
  SnapshotPin,
  SnapshotSink,
  SnapshotStore,
  StoredSnapshot,
} from './ports.ts'
import {
  SnapshotPins,
  digestOf,
  isSameSnapshot,
  newestFirst,
  notAsAnnounced,
  skipBytes,
} from './snapshot-generations.ts'

interface Held {
  readonly id: string
  readonly stored: StoredSnapshot
  readonly chunks: readonly Uint8Array[]
}

interface Partial {
  readonly identity: SnapshotIdentity
  readonly chunks: Uint8Array[]
}

/** `SnapshotStore` without a disk. */
export class MemorySnapshotStore implements SnapshotStore {
  #held: readonly Held[] = []
  #made = 0
  readonly #pins = new SnapshotPins()
  #partial: Partial | undefined
  /** Whether somebody writes to `#partial`. */
  #receiving = false

  async open(): Promise<void> {
    this.#receiving = false // Whoever wrote was of a process that is gone.
  }

  async create(metadata: SnapshotMetadata, membership: Uint8Array): Promise<SnapshotSink> {
    const chunks: Uint8Array[] = []
    let cancelled = false
    return {
      write: async (chunk) => {
        chunks.push(new Uint8Array(chunk))
      },
      commit: async () => {
        if (cancelled) throw new SwarmError('ABORTED', 'snapshot: was cancelled')
        const sizeBytes = sizeOf(chunks)
        return this.#keep({ metadata, membership, sizeBytes, digest: digestOf(chunks) }, chunks)
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
    const known = this.#partial
    const isKnown = known !== undefined && isSameSnapshot(known.identity, identity)
    const partial = isKnown ? known : { identity, chunks: [] }
    this.#partial = partial
    return this.#sinkOf(partial)
  }

  async list(): Promise<readonly StoredSnapshot[]> {
    return this.#held.map(({ stored }) => stored)
  }

  pin(id: string): SnapshotPin {
    this.#find(id)
    this.#pins.add(id)
    let isHeld = true
    return {
      release: async () => {
        if (!isHeld) return
        isHeld = false
        if (this.#pins.remove(id)) this.#reap()
      },
    }
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

  #find(id: string): Held {
    const held = this.#held.find((each) => each.id === id)
    if (held !== undefined) return held
    throw new SwarmError('NOT_FOUND', `snapshot ${id}: does not exist`)
  }

  #sinkOf({ identity, chunks }: Partial): PartialSink {
    let status: 'open' | 'ended' = 'open'
    const checkOpen = (): void => {
      if (status !== 'open') throw new SwarmError('ABORTED', 'snapshot: was suspended')
    }
    const end = (): void => {
      status = 'ended'
      this.#receiving = false
    }
    return {
      get offset() {
        return sizeOf(chunks)
      },
      write: async (chunk) => {
        checkOpen()
        chunks.push(new Uint8Array(chunk))
      },
      commit: async () => {
        checkOpen()
        end()
        this.#partial = undefined
        const isWhole = sizeOf(chunks) === identity.sizeBytes
        if (!isWhole || digestOf(chunks) !== identity.digest) throw notAsAnnounced(identity)
        return this.#keep(identity, chunks)
      },
      suspend: async () => {
        if (status !== 'open') return
        end()
        this.#reap()
      },
    }
  }

  #keep(identity: SnapshotIdentity, chunks: readonly Uint8Array[]): StoredSnapshot {
    this.#made += 1
    const { metadata, membership, sizeBytes, digest } = identity
    const id = `${metadata.term}-${metadata.index}-${this.#made}`
    const stored = { id, metadata, membership, sizeBytes, digest }
    const all = [{ id, stored, chunks }, ...this.#held]
    this.#held = all.toSorted((a, b) => newestFirst(a.stored, b.stored))
    this.#reap()
    return stored
  }

  #reap(): void {
    const surplus = this.#pins.surplus(this.#held)
    this.#held = this.#held.filter((each) => !surplus.includes(each))
    const newest = this.#held[0]?.stored.metadata.index ?? 0
    const isStale = (this.#partial?.identity.metadata.index ?? 0) <= newest
    if (isStale && !this.#receiving) this.#partial = undefined
  }
}

function sizeOf(chunks: readonly Uint8Array[]): number {
  return chunks.reduce((sum, { length }) => sum + length, 0)
}
