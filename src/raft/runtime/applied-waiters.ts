/** Calls that wait until an index is applied here. */
import type { Index } from '../core/entry.ts'
import type { CallOptions, PendingCall, PendingCalls } from './pending-calls.ts'

interface Waiting {
  readonly index: Index
  readonly call: PendingCall<void>
}

/** Those who wait for the state machine to get somewhere. */
export class AppliedWaiters {
  readonly #calls: PendingCalls
  #waiting: Waiting[] = []

  constructor(calls: PendingCalls) {
    this.#calls = calls
  }

  /** Resolves when `onApplied` was told `index` or more. */
  add(index: Index, options: CallOptions): Promise<void> {
    const message = `raft: entry ${index} was not applied within the time`
    const call = this.#calls.start<void>(options, message)
    this.#waiting.push({ index, call })
    return call.promise
  }

  onApplied(appliedIndex: Index): void {
    if (this.#waiting.length === 0) return
    for (const { index, call } of this.#waiting) if (index <= appliedIndex) call.resolve()
    this.#waiting = this.#waiting.filter(({ call }) => !call.settled)
  }
}
