/**
 * Reads that a follower passes to its leader, under numbers of its own. The numbers begin at a
 * random place, so that the answer to a read of this member's previous life matches none of this
 * one; they are never used twice (reference/raft.md bug 23).
 */
import type { Random } from '../../base/random.ts'

/** Reads on their way; the oldest is given up for one more, and its asker asks again. */
export const MAX_FORWARDED_READS = 16_384

/** Where numbering begins is drawn from this many places ... */
const EPOCHS = 2 ** 30
/** ... each of which leaves room for this many reads: all numbers stay safe integers. */
const READS_PER_EPOCH = 2 ** 23

/** The map from this member's numbers to its callers' contexts. */
export class ForwardedReads {
  readonly #random: Random
  readonly #contexts = new Map<number, number>()
  #next = 0

  constructor(random: Random) {
    this.#random = random
  }

  /** A number for a read with `context`. */
  register(context: number): number {
    if (this.#next % READS_PER_EPOCH === 0)
      this.#next = this.#random.integer(EPOCHS) * READS_PER_EPOCH + 1
    const number = this.#next
    this.#next += 1
    this.#contexts.set(number, context)
    const oldest = this.#contexts.keys().next()
    if (this.#contexts.size > MAX_FORWARDED_READS && oldest.done !== true)
      this.#contexts.delete(oldest.value)
    return number
  }

  /** The context of the read `number`, once; `undefined` when it is not awaited. */
  take(number: number): number | undefined {
    const context = this.#contexts.get(number)
    this.#contexts.delete(number)
    return context
  }
}
