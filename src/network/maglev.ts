/**
 * Maglev's lookup table: which backend a hash of the client's address belongs to. Pure.
 *
 * Invariants: the table depends on the names and the size alone, not on their order, so that every
 * node fills it alike without a word between them; shares differ by one slot; a name that goes or
 * comes moves little more than its own share. Names that share a first choice are served in order
 * of name.
 * Source: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", §3.4.
 */
import { hash } from 'node:crypto'
import { assert, at } from '../base/assert.ts'

/** A name's walk through the slots: it begins at `next` and goes on by `step`. */
interface Walk {
  next: number
  readonly step: number
  /** Position in what the caller gave. */
  readonly index: number
}

/**
 * For each of `size` slots the index of a name. `size` is a prime, or a walk would not meet every
 * slot; names beyond `size` have no slot.
 */
export function maglevTable(names: readonly string[], size: number): readonly number[] {
  assert(names.length > 0, 'a Maglev table of nothing')
  const walks = names
    .map((name, index) => ({ name, index }))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ name, index }) => walkOf(name, index, size))
  const table: number[] = Array.from({ length: size }, () => -1)
  for (let filled = 0; filled < size; filled += 1) {
    const walk = at(walks, filled % walks.length)
    while (table[walk.next] !== -1) walk.next = (walk.next + walk.step) % size
    table[walk.next] = walk.index
  }
  return table
}

function walkOf(name: string, index: number, size: number): Walk {
  const digest = hash('sha256', name, 'buffer')
  const step = 1 + (digest.readUInt32BE(4) % (size - 1))
  return { next: digest.readUInt32BE(0) % size, step, index }
}
