/**
 * Work that several callers may want at once and that must be done once.
 *
 * Invariant: one run for each key at any time. A caller that withdraws leaves the work to the
 * others; when all have withdrawn, the work is aborted and a later caller starts afresh.
 */
import { SwarmError, isSwarmError } from '../base/errors.ts'

interface Flight<T> {
  readonly promise: Promise<T>
  readonly controller: AbortController
  /** Callers that still wait. */
  waiters: number
}

/** Runs keyed work once for all who ask at the same time. */
export class SharedWork<T> {
  readonly #flights = new Map<string, Flight<T>>()

  /**
   * Joins the running work for `key`, or starts `work`. @throws ABORTED, and what the work throws
   */
  async run(
    key: string,
    work: (signal: AbortSignal) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    if (signal?.aborted === true) throw withdrawn(key, signal)
    const flight = this.#flights.get(key) ?? this.#start(key, work)
    flight.waiters++
    if (signal === undefined) return flight.promise
    return this.#wait(key, flight, signal)
  }

  /** Aborts all work and waits until it has ended. */
  async close(): Promise<void> {
    const flights = [...this.#flights.values()]
    const reason = new SwarmError('SHUTTING_DOWN', 'images: the store is closed')
    for (const { controller } of flights) controller.abort(reason)
    await Promise.allSettled(flights.map(({ promise }) => promise))
  }

  #start(key: string, work: (signal: AbortSignal) => Promise<T>): Flight<T> {
    const controller = new AbortController()
    const flight: Flight<T> = { promise: work(controller.signal), controller, waiters: 0 }
    this.#flights.set(key, flight)
    const forget = (): void => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key)
    }
    flight.promise.then(forget, forget)
    return flight
  }

  #wait(key: string, flight: Flight<T>, signal: AbortSignal): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const onAbort = (): void => {
        flight.waiters--
        if (flight.waiters === 0) {
          if (this.#flights.get(key) === flight) this.#flights.delete(key)
          flight.controller.abort(withdrawn(key, signal))
        }
        reject(withdrawn(key, signal))
      }
      signal.addEventListener('abort', onAbort, { once: true })
      const settle = (): void => signal.removeEventListener('abort', onAbort)
      flight.promise.then(resolve, reject).finally(settle)
    })
  }
}

/** What a withdrawn call throws: the caller's own reason if that is an operating error. */
export function withdrawn(key: string, signal: AbortSignal): SwarmError {
  if (isSwarmError(signal.reason)) return signal.reason
  return new SwarmError('ABORTED', `${key}: the caller withdrew`, { cause: signal.reason })
}
