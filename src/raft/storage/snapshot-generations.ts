/**
 * What all snapshot stores share: how many are kept, which are pinned, what "newest" means, which
 * two are the same, reading from an offset.
 */
import { createHash } from 'node:crypto'
import { SwarmError } from '../../base/errors.ts'
import type { SnapshotIdentity, StoredSnapshot } from './ports.ts'

/** Snapshots that are kept: the newest, and one to fall back to when the newest is damaged. */
export const SNAPSHOT_GENERATIONS = 2

/**
 * Sorts by position, then by the number in the id: the later made of two at one position is newer.
 */
export function newestFirst(a: StoredSnapshot, b: StoredSnapshot): number {
  return b.metadata.index - a.metadata.index || serialOf(b.id) - serialOf(a.id)
}

/** The last number of `<term>-<index>-<serial>`. */
export function serialOf(id: string): number {
  return Number(id.slice(id.lastIndexOf('-') + 1))
}

/** Whether both are the same snapshot, byte for byte. */
export function isSameSnapshot(a: SnapshotIdentity, b: SnapshotIdentity): boolean {
  return (
    a.digest === b.digest &&
    a.sizeBytes === b.sizeBytes &&
    a.metadata.index === b.metadata.index &&
    a.metadata.term === b.metadata.term &&
    Buffer.compare(a.membership, b.membership) === 0
  )
}

/** Digest of a content that lies in memory. */
export function digestOf(chunks: readonly Uint8Array[]): string {
  const hash = createHash('sha256')
  for (const chunk of chunks) hash.update(chunk)
  return hash.digest('hex')
}

/** What came is not what was announced. */
export function notAsAnnounced({ metadata: { term, index } }: SnapshotIdentity): SwarmError {
  const message = `snapshot ${term}-${index}: what came is not what was announced; dropped`
  return new SwarmError('UNAVAILABLE', message)
}

/** Counts who needs which snapshot. */
export class SnapshotPins {
  readonly #counts = new Map<string, number>()

  has(id: string): boolean {
    return this.#counts.has(id)
  }

  add(id: string): void {
    this.#counts.set(id, (this.#counts.get(id) ?? 0) + 1)
  }

  /** Returns whether nobody needs it any more. */
  remove(id: string): boolean {
    const left = (this.#counts.get(id) ?? 1) - 1
    if (left > 0) this.#counts.set(id, left)
    else this.#counts.delete(id)
    return left <= 0
  }

  /** Of `sorted`, newest first: those beyond the generations that nobody needs. */
  surplus<T extends { readonly id: string }>(sorted: readonly T[]): readonly T[] {
    return sorted.slice(SNAPSHOT_GENERATIONS).filter(({ id }) => !this.has(id))
  }
}

/**
 * The bytes of `chunks` from `offset` on.
 * @yields what is left of each chunk
 */
export async function* skipBytes(
  chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  offset: number,
): AsyncGenerator<Uint8Array> {
  let skip = offset
  for await (const chunk of chunks) {
    if (skip >= chunk.length) {
      skip -= chunk.length
      continue
    }
    yield skip === 0 ? chunk : chunk.subarray(skip)
    skip = 0
  }
}
