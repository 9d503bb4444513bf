/**
 * Calls that wait for something to happen. Each has a deadline and perhaps a signal; deadlines are
 * looked at once a tick, so that a waiting call needs no timer of its own. Invariant: a call
 * settles exactly once, and a settled one is no longer held here.
 */
import type { Clock } from '../../base/clock.ts'
import { SwarmError, isSwarmError } from '../../base/errors.ts'

/** Options of every waiting call. */
export interface CallOptions {
  readonly signal?: AbortSignal | undefined
  /** Default: `RaftOptions.timeoutMs`. */
  readonly timeoutMs?: number | undefined
}

/** One waiting call. */
export interface PendingCall<T> {
  readonly promise: Promise<T>
  readonly settled: boolean
  resolve(value: T): void
  reject(error: Error): void
}

interface Held {
  readonly deadlineMs: number
  readonly timedOut: string
  readonly reject: (error: Error) => void
}

/** All waiting calls of one `Raft`. */
export class PendingCalls {
  readonly #clock: Clock
  readonly #defaultTimeoutMs: number
  readonly #held = new Set<Held>()
  /** Set when the component has stopped; later calls fail with it at once. */
  #closed: Error | undefined

  constructor(clock: Clock, defaultTimeoutMs: number) {
    this.#clock = clock
    this.#defaultTimeoutMs = defaultTimeoutMs
  }

  /** Starts a call; `timedOut` is the message of TIMED_OUT. */
  start<T>(options: CallOptions, timedOut: string): PendingCall<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    const { signal, timeoutMs = this.#defaultTimeoutMs } = options
    let settled = false
    const settle = (): boolean => {
      if (settled) return false
      settled = true
      this.#held.delete(held)
      signal?.removeEventListener('abort', onAbort)
      return true
    }
    const held: Held = {
      deadlineMs: this.#clock.monotonicMs() + timeoutMs,
      timedOut,
      reject: (error) => {
        if (settle()) reject(error)
      },
    }
    const onAbort = (): void => held.reject(abortError(signal))
    this.#held.add(held)
    signal?.addEventListener('abort', onAbort, { once: true })
    if (this.#closed !== undefined) held.reject(this.#closed)
    else if (signal?.aborted === true) onAbort()
    return {
      promise,
      get settled() {
        return settled
      },
      resolve: (value) => {
        if (settle()) resolve(value)
      },
      reject: (error) => held.reject(error),
    }
  }

  /** Rejects what is overdue. To be called every tick. */
  sweep(): void {
    const nowMs = this.#clock.monotonicMs()
    for (const held of this.#held) {
      if (held.deadlineMs <= nowMs) held.reject(new SwarmError('TIMED_OUT', held.timedOut))
    }
  }

  /** Rejects everything, now and from now on. */
  close(error: Error): void {
    this.#closed ??= error
    for (const held of this.#held) held.reject(error)
  }
}

/** Why a signal ended a call, as one of Skein's codes. */
export function abortError(signal: AbortSignal | undefined): SwarmError {
  const reason: unknown = signal?.reason
  if (isSwarmError(reason)) return reason
  return new SwarmError('ABORTED', 'raft: the caller withdrew the call', { cause: reason })
}
