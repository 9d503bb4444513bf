/**
 * How the backends of a server share the slots of its map. Pure.
 *
 * A new connection takes a slot at random, so a share is as exact as slots can say it. Where the
 * weights have a small sum (divided by what all have in common) that is the number of slots, and
 * every share is exact: ten equal backends have ten slots, not 16 of which six have two. Where the
 * sum is larger, the first of a few sizes that errs by less than a tenth is taken, and slots go by
 * largest remainder, but every backend has one.
 *
 * With affinity the slot is a hash of the client's address and the table is Maglev's. Weights above
 * zero are equal there: they come from a node's own links, and nodes would choose differently.
 */
import { assert, at } from '../../base/assert.ts'
import type { Backend } from '../ports.ts'
import { affinityTable } from '../affinity.ts'

/** Largest number of slots that a server has for its own sum of weights. */
export const EXACT_SLOTS_MAX = 128
/** Sizes for other sums, the last being all that a server can have. */
export const WIDE_SLOTS = [256, 1024, 4096] as const
/** Largest error of a backend's share, as a part of it, in all sizes but the last. */
const SHARE_ERROR_MAX = 0.1

/** Who has which slot. */
export interface Sharing {
  readonly how: 'spread' | 'hash'
  /** For each slot the index of a backend. */
  readonly slots: readonly number[]
}

/** Shares out slots to backends, all of weights above 0; those beyond the last size have none. */
export function shareSlots(backends: readonly Backend[], hasAffinity: boolean): Sharing {
  if (hasAffinity) {
    return { how: 'hash', slots: affinityTable(backends.map(({ taskId }) => taskId)) }
  }
  const counts = slotCounts(backends.slice(0, WIDE_SLOTS[2]).map(({ weight }) => weight))
  const slots = counts.flatMap((count, index) => Array.from({ length: count }, () => index))
  return { how: 'spread', slots }
}

/** Slots of each weight, all above 0. */
export function slotCounts(weights: readonly number[]): readonly number[] {
  assert(
    weights.every((weight) => weight > 0),
    'a share without weight',
  )
  const common = weights.reduce(greatestDivisor)
  const sum = weights.reduce((total, weight) => total + weight / common, 0)
  if (sum <= EXACT_SLOTS_MAX) return weights.map((weight) => weight / common)
  assert(weights.length <= WIDE_SLOTS[2], `${weights.length} backends for too few slots`)
  const tries = WIDE_SLOTS.filter((size) => size >= weights.length).map((size) =>
    largestRemainder(weights, size),
  )
  return tries.find((counts) => isFair(weights, counts)) ?? at(tries, tries.length - 1)
}

function greatestDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestDivisor(b, a % b)
}

/** `size` slots in proportion, at least one each. */
function largestRemainder(weights: readonly number[], size: number): number[] {
  const sum = weights.reduce((total, weight) => total + weight, 0)
  const ideal = weights.map((weight) => (weight / sum) * size)
  const counts = ideal.map((share) => Math.max(1, Math.floor(share)))
  const excess = (index: number): number => at(counts, index) - at(ideal, index)
  const indexes = weights.map((_, index) => index)
  let left = size - counts.reduce((total, count) => total + count, 0)
  for (const index of indexes.toSorted((a, b) => excess(a) - excess(b)).slice(0, Math.max(0, left)))
    counts[index] = at(counts, index) + 1
  // Those that were given one slot for less than one are paid by the largest.
  for (; left < 0; left += 1) {
    const largest = indexes.reduce((a, b) => (at(counts, b) > at(counts, a) ? b : a))
    counts[largest] = at(counts, largest) - 1
  }
  return counts
}

function isFair(weights: readonly number[], counts: readonly number[]): boolean {
  const sum = weights.reduce((total, weight) => total + weight, 0)
  const size = counts.reduce((total, count) => total + count, 0)
  return weights.every((weight, index) => {
    const ideal = (weight / sum) * size
    return Math.abs(at(counts, index) - ideal) <= SHARE_ERROR_MAX * ideal
  })
}
