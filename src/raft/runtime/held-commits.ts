/**
 * An append without entries only tells a follower that the commit index moved, or asks whether it
 * is still there. It may wait a moment: mostly the next entries follow at once and tell the same,
 * and then it need not be sent, nor answered. With one write at a time that is half of all traffic.
 *
 * Safe: it is as if the network had delayed or lost the message, and only one that the next message
 * repeats is lost: same term, no smaller commit index, entries that begin no earlier.
 * Messages that are held are at most `HOLD_MS` old.
 */
import type { Clock, Timer } from '../../base/clock.ts'
import type { PeerId } from '../core/entry.ts'
import type { AppendRequest, Message } from '../core/message.ts'

/** How long the commit index may wait for entries, milliseconds. */
const HOLD_MS = 2

/** Holds appends without entries back; one for each peer. */
export class HeldCommits {
  readonly #clock: Clock
  readonly #send: (to: PeerId, messages: readonly Message[]) => void
  readonly #held = new Map<PeerId, AppendRequest>()
  #timer: Timer | undefined

  constructor(clock: Clock, send: (to: PeerId, messages: readonly Message[]) => void) {
    this.#clock = clock
    this.#send = send
  }

  /** Sends `messages`, all to one peer, or keeps them if they are one append without entries. */
  send(to: PeerId, messages: readonly Message[]): void {
    const held = this.#held.get(to)
    const [first] = messages
    const isBare = messages.length === 1 && first?.type === 'app' && first.entries.length === 0
    if (isBare && (held === undefined || repeats(first, held))) {
      this.#held.set(to, first)
      this.#timer ??= this.#clock.after(HOLD_MS, () => this.#flush())
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

  #flush(): void {
    this.#timer = undefined
    const held = [...this.#held]
    this.#held.clear()
    for (const [to, message] of held) this.#send(to, [message])
  }
}

/** Whether `next` tells everything that `held` does. */
function repeats(next: AppendRequest, held: AppendRequest): boolean {
  return next.term === held.term && next.commit >= held.commit && next.index >= held.index
}
