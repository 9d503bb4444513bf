/**
 * How many bytes of byte streams may be under way on one connection at a time. Everything on a
 * connection shares one queue in the kernel and on the line; what waits there delays heartbeats. So
 * all streams together keep little more under way than the line moves in `TARGET_DELAY_MS`.
 *
 * Each acknowledgement tells how long its bytes took. The least of these is the line's own delay,
 * the rest is queue; the window grows while the queue is shorter than the target and shrinks when
 * it is longer, in proportion. Source: RFC 6817 (LEDBAT), without its packet losses.
 *
 * The floor is a compromise: a busy processor at either end looks like a queue, and a smaller
 * window would make it worse. 256 KiB delay a heartbeat by 0.2 s on 10 Mbit/s
 * (`reference/libp2p.md` §4.4), well below every timeout, and still carry 2.5 MB/s when both ends
 * are busy for 0.1 s at a time.
 */

/** Queue that bulk may build up on a line that is fast enough for the floor. */
export const TARGET_DELAY_MS = 100
/** Bounds of the window, and where it begins. */
export const WINDOW_BYTES_MIN = 256 * 1024
export const WINDOW_BYTES_MAX = 2 * 1024 * 1024
export const WINDOW_BYTES_START = 512 * 1024

/** The window shrinks to half a round at most. */
const SHRINK_MAX = -0.5
/** The line's own delay may rise (another route): the least sample is forgotten that fast. */
const BASE_DRIFT = 0.000_01

interface Waiter {
  readonly bytes: number
  readonly grant: () => void
}

/** Shared by all byte streams that leave on one connection. Waiters are served in order. */
export class BulkWindow {
  #limitBytes = WINDOW_BYTES_START
  #underWayBytes = 0
  /** Least time that bytes took, slowly forgotten; milliseconds. */
  #baseMs = Number.POSITIVE_INFINITY
  readonly #waiting: Waiter[] = []

  /** The window's present size. */
  get limitBytes(): number {
    return this.#limitBytes
  }

  get underWayBytes(): number {
    return this.#underWayBytes
  }

  /**
   * Takes `bytes` of the window, when it is the caller's turn and there is room for a first byte.
   */
  acquire(bytes: number): Promise<void> | undefined {
    if (this.#waiting.length === 0 && this.#underWayBytes < this.#limitBytes) {
      this.#underWayBytes += bytes
      return undefined
    }
    return new Promise((grant) => this.#waiting.push({ bytes, grant }))
  }

  /** `bytes` arrived at the far side after `delayMs`. */
  arrived(bytes: number, delayMs: number): void {
    this.#baseMs =
      delayMs < this.#baseMs ? delayMs : this.#baseMs + (delayMs - this.#baseMs) * BASE_DRIFT
    const queueMs = delayMs - this.#baseMs
    const gain = Math.max(SHRINK_MAX, (TARGET_DELAY_MS - queueMs) / TARGET_DELAY_MS)
    const used = this.#waiting.length > 0 || this.#underWayBytes >= this.#limitBytes / 2
    if (gain < 0 || used) this.#resize(this.#limitBytes + gain * bytes)
    this.release(bytes)
  }

  /** Gives back `bytes` of which nothing is known: their stream is gone. */
  release(bytes: number): void {
    this.#underWayBytes -= bytes
    while (this.#underWayBytes < this.#limitBytes) {
      const next = this.#waiting.shift()
      if (next === undefined) return
      this.#underWayBytes += next.bytes
      next.grant()
    }
  }

  #resize(bytes: number): void {
    this.#limitBytes = Math.min(WINDOW_BYTES_MAX, Math.max(WINDOW_BYTES_MIN, Math.round(bytes)))
  }
}
