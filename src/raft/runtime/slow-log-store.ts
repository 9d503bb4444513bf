/**
 * A log store for simulations: every write takes time on the injected clock, and a crash loses
 * what is not yet written, as a real disk would. What was acknowledged stays in `disk`.
 */
import { delay, type Clock } from '../../base/clock.ts'
import { SwarmError } from '../../base/errors.ts'
import type { Random } from '../../base/random.ts'
import type { Entry, HardState, Index } from '../core/entry.ts'
import type { AppendBatch, LogContents, LogStore } from '../storage/ports.ts'

interface SlowComponents {
  readonly disk: LogStore
  readonly clock: Clock
  readonly random: Random
}

/** `LogStore` whose writes take up to `maxWriteMs`. */
export class SlowLogStore implements LogStore {
  readonly #components: SlowComponents
  readonly #maxWriteMs: number
  #crashed = false

  constructor(components: SlowComponents, maxWriteMs: number) {
    this.#components = components
    this.#maxWriteMs = maxWriteMs
  }

  /** The power fails: a write under way never happens, later ones fail. */
  crash(): void {
    this.#crashed = true
  }

  open(): Promise<LogContents> {
    this.#crashed = false
    return this.#components.disk.open()
  }

  read(low: Index, high: Index): Promise<readonly Entry[]> {
    return this.#components.disk.read(low, high)
  }

  append(batch: AppendBatch): Promise<void> {
    return this.#later(() => this.#components.disk.append(batch))
  }

  compact(base: LogContents['base']): Promise<void> {
    return this.#later(() => this.#components.disk.compact(base))
  }

  reset(base: LogContents['base'], hardState: HardState): Promise<void> {
    return this.#later(() => this.#components.disk.reset(base, hardState))
  }

  close(): Promise<void> {
    return this.#components.disk.close()
  }

  async #later(write: () => Promise<void>): Promise<void> {
    const { clock, random } = this.#components
    this.#assertPowered()
    await delay(clock, random.integer(this.#maxWriteMs + 1))
    this.#assertPowered()
    await write()
  }

  #assertPowered(): void {
    if (!this.#crashed) return
    throw new SwarmError('SHUTTING_DOWN', 'raft log: the simulated power is off')
  }
}
