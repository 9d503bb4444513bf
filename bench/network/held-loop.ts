/** How long the event loop is held while something goes on. */

/** What a piece of work cost. */
export interface Held {
  readonly ms: number
  /** The longest that a timer waited beyond its time. */
  readonly lagMs: number
  /** The most processor time of this thread between two ticks of a timer of 2 ms. */
  readonly cpuMs: number
}

const TICK_MS = 2

/** Watches the loop. */
export class HeldLoop {
  #lagMs = 0
  #cpuMs = 0
  #lastMs = performance.now()
  #lastCpuMs = threadCpuMs()

  /** Watches the loop during `work`, which says how long it took. */
  static async during(work: () => Promise<number>): Promise<Held> {
    const loop = new HeldLoop()
    const timer = setInterval(() => loop.#look(TICK_MS), TICK_MS)
    const ms = await work()
    // The last stretch counts, too.
    await new Promise((resolve) => {
      setImmediate(resolve)
    })
    loop.#look(0)
    clearInterval(timer)
    return { ms, lagMs: loop.#lagMs, cpuMs: loop.#cpuMs }
  }

  #look(dueMs: number): void {
    const nowMs = performance.now()
    this.#lagMs = Math.max(this.#lagMs, nowMs - this.#lastMs - dueMs)
    this.#lastMs = nowMs
    const cpuMs = threadCpuMs()
    this.#cpuMs = Math.max(this.#cpuMs, cpuMs - this.#lastCpuMs)
    this.#lastCpuMs = cpuMs
  }
}

function threadCpuMs(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1_000
}
