/**
 * Limits of the userspace driver. Each has a unit, a reason and what happens at the limit; tests
 * and small boards give their own.
 */

/** Bounds of what the driver holds and how long it waits. */
export interface UserspaceLimits {
  /**
   * Most proxied TCP connections of the node. Each holds two sockets and at most about 256 KiB of
   * buffers; at the limit a new client is reset.
   */
  readonly connectionsMax: number
  /** Milliseconds for one backend to answer a dial, before the next is tried. */
  readonly dialTimeoutMs: number
  /** Backends tried for one client, before it is reset. */
  readonly dialTriesMax: number
  /** Milliseconds for which a backend that could not be dialled is avoided while others exist. */
  readonly benchMs: number
  /** Milliseconds that a client may take to read the rest of an answer whose backend is gone. */
  readonly flushMs: number
  /**
   * Milliseconds without a datagram either way, after which a client's UDP session is forgotten.
   */
  readonly udpIdleMs: number
  /** Most UDP sessions of one virtual server; at the limit the one idle longest is closed. */
  readonly udpSessionsMax: number
  /** Datagrams held while a session's socket connects; more are dropped, as UDP may. */
  readonly udpPendingMax: number
}

/** What a node uses when nothing else is said. */
export const USERSPACE_LIMITS: UserspaceLimits = {
  connectionsMax: 16_384,
  dialTimeoutMs: 3_000,
  dialTriesMax: 8,
  benchMs: 2_000,
  flushMs: 10_000,
  udpIdleMs: 90_000,
  udpSessionsMax: 4_096,
  udpPendingMax: 16,
}

/** Idle seconds after which the kernel asks a silent TCP peer whether it lives; in milliseconds. */
export const KEEP_ALIVE_DELAY_MS = 60_000

/** Counts connections against a limit that all virtual servers share. */
export class ConnectionBudget {
  readonly #max: number
  #taken = 0

  constructor(max: number) {
    this.#max = max
  }

  /** Connections open now. */
  get taken(): number {
    return this.#taken
  }

  /** Takes one; false when the limit is reached. */
  take(): boolean {
    if (this.#taken >= this.#max) return false
    this.#taken += 1
    return true
  }

  /** Gives one back. */
  release(): void {
    this.#taken -= 1
  }
}
