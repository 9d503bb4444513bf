/**
 * Time as a component. No decision about safety or liveness uses wall time: boards without a
 * battery wake up in 1970. `monotonicMs` drives timers and leases; `wallTime` is only shown to
 * people. `systemClock` is named in `node.ts` (and the client) alone.
 */
import { performance } from 'node:perf_hooks'

/** A started timer. */
export interface Timer {
  /** Stops the timer; does nothing when it has fired or was stopped. */
  cancel(): void
}

/** The source of time and timers. */
export interface Clock {
  /** Milliseconds since an arbitrary start; never goes back. */
  monotonicMs(): number
  /** Wall time in milliseconds since 1970, for display only. */
  wallMs(): number
  /** Calls `callback` once, `delayMs` from now. */
  after(delayMs: number, callback: () => void): Timer
}

/** The machine's clock. */
export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, callback) {
    const handle = setTimeout(callback, delayMs)
    return { cancel: () => clearTimeout(handle) }
  },
}

/** RFC 3339 text of a wall time in milliseconds, as Docker's API prints it. */
export function wallTimeText(wallMs: number): string {
  return new Date(wallMs).toISOString()
}

/** Resolves after `delayMs`, or rejects with `signal.reason` when `signal` aborts first. */
export function delay(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(signal.reason as Error)
      return
    }
    const timer = clock.after(delayMs, () => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    })
    const onAbort = (): void => {
      timer.cancel()
      reject(signal?.reason as Error)
    }
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}
