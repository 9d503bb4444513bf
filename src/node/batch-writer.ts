/**
 * Joins small writes to a stream: what is given while one is under way, or in the same turn of the
 * event loop, leaves together. A line of a log alone would cost as much as sixty-four kilobytes of
 * them.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'

/** Bytes that wait before the giver has to. */
export const BATCH_BYTES_MAX = 64 * 1024

/** A writer in front of another one. */
export class BatchWriter {
  readonly #target: { write(chunk: Uint8Array): Promise<void> }
  /** Not yet given to the target; their lengths sum up to `#pendingBytes`. */
  #pending: Uint8Array[] = []
  #pendingBytes = 0
  /** Set while something is being written. */
  #writing: Promise<void> | undefined
  #failure: { readonly error: unknown } | undefined

  constructor(target: { write(chunk: Uint8Array): Promise<void> }) {
    this.#target = target
  }

  /** Resolves when more may be given. @throws what an earlier write threw */
  async write(chunk: Uint8Array): Promise<void> {
    this.#throwFailure()
    this.#pending.push(chunk)
    this.#pendingBytes += chunk.length
    this.#writing ??= this.#drain()
    if (this.#pendingBytes >= BATCH_BYTES_MAX) await this.flush()
  }

  /** Resolves when everything is with the target. @throws what a write threw */
  async flush(): Promise<void> {
    await this.#writing
    this.#throwFailure()
  }

  async #drain(): Promise<void> {
    try {
      await nextTurn()
      while (this.#pending.length > 0) {
        const chunk = Buffer.concat(this.#pending, this.#pendingBytes)
        this.#pending = []
        this.#pendingBytes = 0
        await this.#target.write(chunk)
      }
    } catch (error) {
      this.#failure = { error }
    } finally {
      this.#writing = undefined
    }
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error
  }
}
