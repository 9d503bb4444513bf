/**
 * What all snapshot stores share: how many are kept, what "newest" means, reading from an offset.
 */
import type { StoredSnapshot } from './ports.ts'

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
