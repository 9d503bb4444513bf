/**
 * How far the log must stay for those who receive a snapshot: from its position until they have
 * caught up. Without this a busy leader compacts past them meanwhile and must send the next
 * snapshot, and the next (NuRaft 118; `reference/raft.md` bug 15). A receiver that makes no
 * progress holds nothing.
 */
import type { Clock } from '../../base/clock.ts'
import type { Index, PeerId } from '../core/entry.ts'
import type { CoreStatus } from '../core/status.ts'

/** A receiver that was sent its snapshot and acknowledges nothing for so long holds no log. */
const CATCH_UP_REST_MS = 10_000

interface Hold {
  /** Where the receiver is known to be, at least. */
  index: Index
  /** Last progress, monotonic milliseconds; `undefined` while the transfer runs. */
  sinceMs: number | undefined
}

/** Log positions that compaction must not pass. */
export class LogHolds {
  readonly #clock: Clock
  readonly #holds = new Map<PeerId, Hold>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** A snapshot at `index` is on its way to `peer`. */
  begin(peer: PeerId, index: Index): void {
    this.#holds.set(peer, { index, sinceMs: undefined })
  }

  /** It arrived; what follows it is needed now. */
  transferred(peer: PeerId): void {
    const hold = this.#holds.get(peer)
    if (hold !== undefined) hold.sinceMs = this.#clock.monotonicMs()
  }

  release(peer: PeerId): void {
    this.#holds.delete(peer)
  }

  /** The lowest index held. Who is within `trailing` entries of the end holds nothing any more. */
  lowest(
    { progress, lastIndex }: Pick<CoreStatus, 'progress' | 'lastIndex'>,
    trailing: number,
  ): Index | undefined {
    let lowest: Index | undefined
    for (const [peer, hold] of this.#holds) {
      const match = progress.get(peer)?.match
      if (match === undefined || !this.#isHeld(hold, match) || lastIndex - match <= trailing) {
        this.#holds.delete(peer)
      } else lowest = Math.min(lowest ?? hold.index, hold.index)
    }
    return lowest
  }

  #isHeld(hold: Hold, match: Index): boolean {
    if (hold.sinceMs === undefined) return true
    const nowMs = this.#clock.monotonicMs()
    if (match > hold.index) {
      hold.index = match
      hold.sinceMs = nowMs
    }
    return nowMs - hold.sinceMs < CATCH_UP_REST_MS
  }
}
