/**
 * The leader's side of a restore: brings a state from outside into the log, piece by piece
 * (`restore-entries.ts`). Source: hashicorp/raft `Restore`, in its purpose.
 */
import { SwarmError } from '../../base/errors.ts'
import type { Index, Term } from '../core/entry.ts'
import type { Driver } from './driver.ts'
import { RESTORE_BYTES_MAX, RESTORE_CHUNK_BYTES } from './options.ts'
import type { CallOptions } from './pending-calls.ts'
import { encodeRestore, type RestoreKind } from './restore-entries.ts'

/** Options of `Raft.restore`. */
export interface RestoreOptions extends CallOptions {
  /** Size of the state, if known: a source that gives another one changes nothing. */
  readonly sizeBytes?: number
}

/** Pieces on their way through the log at once. */
const WINDOW_PIECES = 8

/** One restore of a leader. */
export class Restore {
  readonly #driver: Pick<Driver<unknown>, 'core' | 'proposals' | 'schedule' | 'isRunning'>
  readonly #options: RestoreOptions
  /** Term of all its entries. */
  #term: Term = 0
  #sizeBytes = 0
  #pieces = 0
  #window: Promise<Term>[] = []

  constructor(
    driver: Pick<Driver<unknown>, 'core' | 'proposals' | 'schedule' | 'isRunning'>,
    options: RestoreOptions,
  ) {
    this.#driver = driver
    this.#options = options
  }

  /** @throws as `Raft.restore` */
  async run(source: AsyncIterable<Uint8Array>): Promise<Index> {
    const message = 'raft proposal: a restore replaces the whole state'
    this.#driver.proposals.abort(new SwarmError('ABORTED', message))
    const begin = await this.#propose('begin')
    this.#term = begin.term
    try {
      for await (const chunk of source) await this.#add(chunk)
      await this.#settle()
      this.#assertWhole()
    } catch (error) {
      await this.#cancel()
      throw error
    }
    const { index, term } = await this.#propose('end')
    this.#assertTerm(term)
    if (index === begin.index + this.#pieces + 1) return index
    const interrupted = 'restore: another entry came in between; nothing happened, repeat it'
    throw new SwarmError('UNAVAILABLE', interrupted)
  }

  async #add(chunk: Uint8Array): Promise<void> {
    this.#sizeBytes += chunk.length
    if (this.#sizeBytes > RESTORE_BYTES_MAX) {
      const message = `restore: more than ${RESTORE_BYTES_MAX} bytes; restore offline instead`
      throw new SwarmError('RESOURCE_EXHAUSTED', message)
    }
    for (let offset = 0; offset < chunk.length; offset += RESTORE_CHUNK_BYTES) {
      const piece = chunk.subarray(offset, offset + RESTORE_CHUNK_BYTES)
      this.#pieces += 1
      const proposed = this.#propose('piece', piece).then(({ term }) => term)
      proposed.catch(() => {}) // Awaited in #settle.
      this.#window.push(proposed)
      if (this.#window.length >= WINDOW_PIECES) await this.#settle()
    }
  }

  async #settle(): Promise<void> {
    const window = this.#window
    this.#window = []
    for (const term of await Promise.all(window)) this.#assertTerm(term)
  }

  /** A restore that spans two terms is abandoned by all. */
  #assertTerm(term: Term): void {
    if (term === this.#term) return
    throw new SwarmError('NOT_LEADER', 'restore: leadership changed meanwhile; nothing happened')
  }

  #assertWhole(): void {
    const { sizeBytes } = this.#options
    if (sizeBytes === undefined || sizeBytes === this.#sizeBytes) return
    const message = `restore: ${this.#sizeBytes} bytes came, ${sizeBytes} were announced`
    throw new SwarmError('INVALID_ARGUMENT', message)
  }

  /** Ends it for all members. If even that fails, the next leader's first entry does. */
  async #cancel(): Promise<void> {
    const { signal: _withdrawn, ...options } = this.#options
    const { core, proposals } = this.#driver
    if (!this.#driver.isRunning || core.term !== this.#term) return
    const entry = { type: 'restore', data: encodeRestore('cancel') } as const
    const cancelled = proposals.proposeEntry(core, entry, options)
    this.#driver.schedule()
    await Promise.allSettled([cancelled])
  }

  #propose(
    kind: RestoreKind,
    content?: Uint8Array,
  ): ReturnType<Driver<unknown>['proposals']['proposeEntry']> {
    const { core, proposals } = this.#driver
    const entry = { type: 'restore', data: encodeRestore(kind, content) } as const
    const proposed = proposals.proposeEntry(core, entry, this.#options)
    this.#driver.schedule()
    return proposed
  }
}
