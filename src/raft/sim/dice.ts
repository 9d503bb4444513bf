/**
 * Everything that a simulation draws. Each user of chance (a link, a disk, a node) has dice of its
 * own, made from the seed and a name, so that taking one fault out of a run disturbs the rest of
 * it as little as can be: that is what makes shrinking work.
 */
import { at } from '../../base/assert.ts'
import { seededRandom, type Random } from '../../base/random.ts'

const PARTS = 0x1_0000_0000
const FNV_OFFSET = 0x811c9dc5
const FNV_PRIME = 0x01000193

/** Chance, reproducible. */
export class Dice {
  readonly random: Random

  constructor(seed: number, name: string) {
    let hash = (FNV_OFFSET ^ seed) >>> 0
    for (let position = 0; position < name.length; position += 1) {
      hash = Math.imul(hash ^ name.charCodeAt(position), FNV_PRIME)
    }
    this.random = seededRandom(hash >>> 0)
  }

  /** A number in [0, 1). */
  fraction(): number {
    return this.random.integer(PARTS) / PARTS
  }

  chance(probability: number): boolean {
    return probability > 0 && this.fraction() < probability
  }

  /** An integer in [low, high]. */
  integer(low: number, high: number): number {
    return low + this.random.integer(high - low + 1)
  }

  /** A number in [low, high). */
  between(low: number, high: number): number {
    return low + this.fraction() * (high - low)
  }

  /** Exponentially distributed, so that now and then one is far longer than the rest. */
  exponential(mean: number): number {
    return mean <= 0 ? 0 : -Math.log(1 - this.fraction()) * mean
  }

  /** Two different integers in [0, bound). */
  pair(bound: number): readonly [number, number] {
    const first = this.random.integer(bound)
    return [first, (first + 1 + this.random.integer(bound - 1)) % bound]
  }

  pick<T>(list: readonly (T & {})[]): T {
    return at(list, this.random.integer(list.length))
  }
}
