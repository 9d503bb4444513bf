/** When what a commit causes begins and ends, seen from outside of the reconcilers. */
import { systemClock } from '../../src/base/clock.ts'
import type { Clock } from '../../src/base/clock.ts'
import { APPLY_COALESCE_MS } from '../../src/network/network.ts'
import type { Plane } from '../../src/network/plane/plane.ts'
import type { LoadBalancer } from '../../src/network/ports.ts'

/** The reconcilers gather nothing here; all other times are real. */
export const AT_ONCE: Clock = {
  ...systemClock,
  after(delayMs, callback) {
    if (delayMs !== APPLY_COALESCE_MS) return systemClock.after(delayMs, callback)
    const handle = setImmediate(callback)
    return { cancel: () => clearImmediate(handle) }
  },
}

/** Looks without anything running after which nothing will begin. */
const QUIET_LOOKS = 3

/** Watches calls of a balancer and of a plane. */
export class Applications {
  #running = 0
  #ended = 0
  #endedMs = 0
  #faults: readonly unknown[] = []

  balancer(inner: LoadBalancer): LoadBalancer {
    const watch = this.#watched.bind(this)
    return new Proxy(inner, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target)
        if (typeof value !== 'function') return value
        const call = (...words: readonly unknown[]): unknown => Reflect.apply(value, target, words)
        if (name === 'close') return call
        return (...words: readonly unknown[]) => watch(() => call(...words) as Promise<unknown>)
      },
    })
  }

  plane(inner: Plane): Pick<Plane, 'apply' | 'forget'> {
    return {
      apply: (...words) => this.#watched(() => inner.apply(...words)),
      forget: () => inner.forget(),
    }
  }

  /**
   * Runs `cause` and resolves when what came of it has ended: milliseconds until then. `least`: so
   * many calls will come. @throws Error on a fault
   */
  async after(cause: () => void, least = 0): Promise<number> {
    const wanted = this.#ended + least
    const beganMs = performance.now()
    cause()
    this.#endedMs = performance.now()
    for (let quiet = 0; quiet < QUIET_LOOKS; quiet += 1) {
      await new Promise((resolve) => {
        setTimeout(resolve, 1)
      })
      if (this.#running > 0 || this.#ended < wanted) quiet = -1
    }
    if (this.#faults.length > 0) throw new Error(JSON.stringify(this.#faults))
    return this.#endedMs - beganMs
  }

  async #watched<T>(work: () => Promise<T>): Promise<T> {
    this.#running += 1
    try {
      const result = await work()
      const faults = Array.isArray(result) ? result : (result as { faults: unknown[] }).faults
      if (faults.length > 0) this.#faults = faults
      return result
    } finally {
      this.#running -= 1
      this.#ended += 1
      this.#endedMs = performance.now()
    }
  }
}
