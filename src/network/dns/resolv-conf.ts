/**
 * The host's resolver configuration: which servers know the rest of the world. Read again when it
 * changed, since DHCP rewrites it. Servers on loopback count: the resolver asks from the host's own
 * namespace. Source: resolv.conf(5).
 */
import { readFile, stat } from 'node:fs/promises'
import type { Clock } from '../../base/clock.ts'

/** Most servers that are asked (`MAXNS`). */
const SERVERS_MAX = 3

/** How often the file is looked at, milliseconds. */
const LOOK_EVERY_MS = 5_000

/** Servers named by a file. */
export class ResolvConf {
  readonly #clock: Clock
  readonly #path: string
  #servers: readonly string[] = []
  #changedMs: number | undefined
  #lookedMs: number | undefined

  constructor(clock: Clock, path = '/etc/resolv.conf') {
    this.#clock = clock
    this.#path = path
  }

  /** Addresses, best first; none when the file is missing. */
  async servers(): Promise<readonly string[]> {
    const nowMs = this.#clock.monotonicMs()
    if (this.#lookedMs !== undefined && nowMs - this.#lookedMs < LOOK_EVERY_MS) return this.#servers
    this.#lookedMs = nowMs
    try {
      const { mtimeMs } = await stat(this.#path)
      if (mtimeMs !== this.#changedMs) {
        this.#servers = parseServers(await readFile(this.#path, 'utf8'))
        this.#changedMs = mtimeMs
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      this.#servers = []
      this.#changedMs = undefined
    }
    return this.#servers
  }
}

/** The servers in the text of a resolv.conf. */
export function parseServers(text: string): readonly string[] {
  const found = [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].map((match) => match[1] ?? '')
  return found.slice(0, SERVERS_MAX)
}
