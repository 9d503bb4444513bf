/**
 * Limits of the userspace driver. Each has a unit, a reason and what happens at the limit; tests
 * and small boards give their own.
 */
import { readFileSync } from 'node:fs'

/** Bounds of what the driver holds and how long it waits. */
export interface UserspaceLimits {
  /**
   * Most proxied TCP connections of the node. Each holds two sockets, 7 KiB when idle and at most
   * about 256 KiB of buffers; at the limit a new client is reset. Fewer where the process may not
   * open so many files: see {@link connectionsMaxFor}.
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

/** Open files that proxied connections leave to the rest of the daemon; half of them where few. */
const FILES_KEPT = 2_048
const SOCKETS_PER_CONNECTION = 2

/**
 * Most proxied connections of a process that may open `filesMax` files: the log, the store and the
 * mesh must not lack one because many clients came.
 */
export function connectionsMaxFor(filesMax: number): number {
  const kept = Math.min(FILES_KEPT, filesMax / 2)
  const affordable = Math.floor((filesMax - kept) / SOCKETS_PER_CONNECTION)
  return Math.min(USERSPACE_LIMITS.connectionsMax, affordable)
}

/** Files that this process may open; `Infinity` where the system does not say. */
export function openFilesMax(): number {
  let text: string
  try {
    text = readFileSync('/proc/self/limits', 'utf8')
  } catch {
    return Infinity
  }
  const soft = /^Max open files +(\d+)/m.exec(text)?.[1]
  return soft === undefined ? Infinity : Number(soft)
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
