/**
 * An append without entries only tells a follower that the commit index moved, or asks whether it
 * is still there. It may wait a moment: mostly the next entries follow at once and tell the same,
 * and then it need not be sent, nor answered. With one write at a time that is half of all traffic.
 *
 * Safe: it is as if the network had delayed or lost the message, and only one that the next message
 * repeats is lost: same term, no smaller commit index, entries that begin no earlier.
 * What is held leaves `HOLD_MS` after it came (and half a millisecond, as timers are), not when
 * a timer of an earlier one happens to fire: in a closed loop that would be every few writes.
 */
import type { Clock, Timer } from '../../base/clock.ts'
import type { PeerId } from '../core/entry.ts'
import type { AppendRequest, Message } from '../core/message.ts'

/** How long the commit index may wait for entries, milliseconds. */
const HOLD_MS = 2
/** What is so near its time goes now: no timer is finer. */
const TIMER_STEP_MS = 0.5

interface Held {
  readonly message: AppendRequest
  /** Since when this peer has waited for the news; monotonic. */
  readonly sinceMs: number
}

/** Holds appends without entries back; one for each peer. */
export class HeldCommits {
  readonly #clock: Clock
  readonly #send: (to: PeerId, messages: readonly Message[]) => void
  readonly #held = new Map<PeerId, Held>()
  #timer: Timer | undefined

  constructor(clock: Clock, send: (to: PeerId, messages: readonly Message[]) => void) {
    this.#clock = clock
    this.#send = send
  }

  /** Sends `messages`, all to one peer, or keeps them if they are one append without entries. */
  send(to: PeerId, messages: readonly Message[]): void {
    const waiting = this.#held.get(to)
    const held = waiting?.message
    const [first] = messages
    const isBare = messages.length === 1 && first?.type === 'app' && first.entries.length === 0
    if (isBare && (held === undefined || repeats(first, held))) {
      const sinceMs = waiting?.sinceMs ?? this.#clock.monotonicMs()
      this.#held.set(to, { message: first, sinceMs })
      this.#arm(HOLD_MS)
      return
    }
    this.#held.delete(to)
    const isRepeated =
      held === undefined || messages.some((one) => one.type === 'app' && repeats(one, held))
    this.#send(to, isRepeated ? messages : [held, ...messages])
  }

  /** Forgets what is held: this node stops. */
  stop(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#held.clear()
  }

  #arm(delayMs: number): void {
    this.#timer ??= this.#clock.after(delayMs, () => this.#flush())
  }

  #flush(): void {
    this.#timer = undefined
    const now = this.#clock.monotonicMs()
    let restMs = Number.POSITIVE_INFINITY
    for (const [to, { message, sinceMs }] of this.#held) {
      const leftMs = sinceMs + HOLD_MS - now
      if (leftMs > TIMER_STEP_MS) {
        restMs = Math.min(restMs, leftMs)
        continue
      }
      this.#held.delete(to)
      this.#send(to, [message])
    }
    if (this.#held.size > 0) this.#arm(restMs)
  }
}

/** Whether `next` tells everything that `held` does. */
function repeats(next: AppendRequest, held: AppendRequest): boolean {
  return next.term === held.term && next.commit >= held.commit && next.index >= held.index
}
