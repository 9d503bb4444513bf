/**
 * How one node asks another whether its kernel has followed the store so far: method
 * `network.programmed`, `{ index }` there and, when it has, the index that it has reached back. A
 * replica that is behind is waited for, within a bound. Independent of the mesh, which proves who
 * asks: any member may.
 */
import type { Clock } from '../../base/clock.ts'
import { SwarmError } from '../../base/errors.ts'
import type { Programmed } from './progress.ts'
import { deadline } from '../../base/deadline.ts'

/** Name of the method on the mesh. */
export const PROGRAMMED_METHOD = 'network.programmed'

/** Milliseconds that a question may wait for this node's replica and kernel. */
export const ANSWER_MS_MAX = 3_000

/** Questions that wait here; a node has one under way. More are RESOURCE_EXHAUSTED. */
export const ANSWERS_AT_ONCE_MAX = 4_096

/** A question, and an answer. */
export interface ProgrammedIndex {
  readonly index: number
}

/** Reads either. @throws INVALID_ARGUMENT */
export function decodeProgrammed(body: unknown): ProgrammedIndex {
  if (typeof body === 'object' && body !== null && 'index' in body) {
    const { index } = body
    if (typeof index === 'number' && Number.isSafeInteger(index) && index >= 0) return { index }
  }
  throw new SwarmError('INVALID_ARGUMENT', `${PROGRAMMED_METHOD}: no index in the message`)
}

/** Answers `network.programmed`. */
export class ProgrammedServer {
  readonly #clock: Clock
  readonly #own: () => Programmed | undefined
  #waiting = 0

  /** @param components `own` is undefined while this node's network has not started */
  constructor(components: { readonly clock: Clock; readonly own: () => Programmed | undefined }) {
    this.#clock = components.clock
    this.#own = components.own
  }

  /** @throws INVALID_ARGUMENT, UNAVAILABLE, RESOURCE_EXHAUSTED, TIMED_OUT, SHUTTING_DOWN */
  async answer(body: unknown): Promise<ProgrammedIndex> {
    const { index } = decodeProgrammed(body)
    const own = this.#own()
    if (own === undefined) throw new SwarmError('UNAVAILABLE', 'network: has not started yet')
    if (own.index >= index) return { index: own.index }
    if (this.#waiting >= ANSWERS_AT_ONCE_MAX) {
      throw new SwarmError('RESOURCE_EXHAUSTED', `network: ${this.#waiting} nodes wait for it`)
    }
    this.#waiting += 1
    using limit = deadline(this.#clock, ANSWER_MS_MAX, `network: entry ${index} in the balancers`)
    try {
      await own.reached(index, limit)
      return { index: own.index }
    } finally {
      this.#waiting -= 1
    }
  }
}
