/**
 * Limits how many dials run at once on a node, so that a site that comes back after a power cut
 * does not spend its processors on handshakes that time out. Waiters are served in order.
 */

/** Dials at the same time. */
export const PARALLEL_DIALS_MAX = 8

/** A place in which to dial; gives it back when disposed. */
export interface DialSlot extends Disposable {
  /** False when the node stops: do not dial. */
  readonly granted: boolean
}

/** A counting semaphore with an end. */
export class DialSlots {
  #free: number
  #closed = false
  /** In order of arrival. */
  readonly #waiting: ((granted: boolean) => void)[] = []

  constructor(size: number = PARALLEL_DIALS_MAX) {
    this.#free = size
  }

  /** Resolves when it is the caller's turn, or the slots are closed. */
  async take(): Promise<DialSlot> {
    const granted = await this.#turn()
    return {
      granted,
      [Symbol.dispose]: () => {
        if (granted) this.#giveBack()
      },
    }
  }

  /** Lets every waiter go without a slot. */
  close(): void {
    this.#closed = true
    for (const waiter of this.#waiting.splice(0)) waiter(false)
  }

  #turn(): Promise<boolean> | boolean {
    if (this.#closed) return false
    if (this.#free > 0) {
      this.#free -= 1
      return true
    }
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  #giveBack(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#free += 1
    else next(true)
  }
}
