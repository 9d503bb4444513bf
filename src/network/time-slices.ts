/**
 * Long work in the event loop, cut into slices: between two of them everything else that waits gets
 * its turn.
 */
import { setImmediate } from 'node:timers/promises'
import type { Clock } from '../base/clock.ts'

/** Milliseconds of work at a stretch: far below what a heartbeat or a request notices. */
const SLICE_MS = 4
/** Steps between two looks at the clock, which is not free on every machine. */
const STEPS_PER_LOOK = 16

/** Tells long work when to pause. */
export class TimeSlices {
  readonly #clock: Pick<Clock, 'monotonicMs'>
  #beganMs = -Infinity
  #steps = 0

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock
  }

  /** After each step: something to wait for when the slice is over. A step may count for more. */
  maybeYield(steps = 1): Promise<void> | undefined {
    this.#steps += steps
    if (this.#steps < STEPS_PER_LOOK) return undefined
    this.#steps = 0
    if (this.#clock.monotonicMs() - this.#beganMs < SLICE_MS) return undefined
    return this.#yield()
  }

  async #yield(): Promise<void> {
    await setImmediate()
    this.#beganMs = this.#clock.monotonicMs()
  }
}

/** Pauses after a number of steps, where there is no clock. */
export class StepSlices {
  readonly #stepsMax: number
  #steps = 0

  /** @param stepsMax steps at a stretch: so many that they take a millisecond or two */
  constructor(stepsMax: number) {
    this.#stepsMax = stepsMax
  }

  /** After each step, or several: something to wait for when there were enough. */
  maybeYield(steps = 1): Promise<void> | undefined {
    this.#steps += steps
    if (this.#steps < this.#stepsMax) return undefined
    this.#steps = 0
    return setImmediate()
  }
}
