/** Clients that never stop asking, and what they went through. */
import { fetchText } from './http.ts'

/** What the clients saw. */
export interface LoadReport {
  readonly requests: number
  /** Times and texts of the errors, in order. */
  readonly failures: readonly string[]
  readonly slowestMs: number
  /** Different answers. */
  readonly seen: ReadonlySet<string>
}

/** Runs `clients` loops of requests from construction until `stop`. */
export class Load {
  readonly #loops: readonly Promise<void>[]
  readonly #failures: string[] = []
  readonly #seen = new Set<string>()
  #requests = 0
  #slowestMs = 0
  #stopped = false

  constructor(host: string, port: number, clients = 4) {
    this.#loops = Array.from({ length: clients }, () => this.#run(host, port))
  }

  get requests(): number {
    return this.#requests
  }

  async stop(): Promise<LoadReport> {
    this.#stopped = true
    await Promise.all(this.#loops)
    return {
      requests: this.#requests,
      failures: this.#failures,
      slowestMs: Math.round(this.#slowestMs),
      seen: this.#seen,
    }
  }

  async #run(host: string, port: number): Promise<void> {
    while (!this.#stopped) {
      const startedAt = performance.now()
      try {
        this.#seen.add(await fetchText(host, port, 10_000))
      } catch (error) {
        const tookMs = Math.round(performance.now() - startedAt)
        this.#failures.push(`${new Date().toISOString()}, after ${tookMs} ms: ${String(error)}`)
      }
      this.#requests += 1
      this.#slowestMs = Math.max(this.#slowestMs, performance.now() - startedAt)
    }
  }
}
