/**
 * What a member has to tell about itself, as a stream for each who listens. Every listener has its
 * own bounded queue: one that does not read loses the oldest observations, counted, and never slows
 * the member down. Source: hashicorp/raft `observer.go` (there the newest are lost).
 */
import type { SwarmError } from '../../base/errors.ts'
import type { Index, Term } from '../core/entry.ts'
import type { Role } from '../core/ready.ts'
import type { Configuration, Server, ServerId } from './ports.ts'

/** How staging a server goes; `abandoned` leaves it a learner, if it has become one. */
export type StagingPhase = 'started' | 'caughtUpRound' | 'promoted' | 'abandoned'

/** How the transfer of a snapshot goes; `resumed` = not from the beginning, or once more. */
export type TransferPhase = 'started' | 'resumed' | 'moved' | 'finished' | 'failed'

/** One thing that happened. */
export type Observation =
  | { readonly type: 'leader'; readonly leader: ServerId | undefined; readonly term: Term }
  | { readonly type: 'role'; readonly role: Role; readonly term: Term }
  | { readonly type: 'configuration'; readonly configuration: Configuration }
  /** A server became a member, or is none any more; after `configuration`. */
  | { readonly type: 'peerAdded' | 'peerRemoved'; readonly peer: Server }
  /** The leader has not heard `peer` for an election timeout; `lastContactMs` is monotonic. */
  | {
      readonly type: 'failedHeartbeat'
      readonly peer: ServerId
      readonly lastContactMs: number
    }
  | { readonly type: 'resumedHeartbeat'; readonly peer: ServerId }
  | {
      readonly type: 'snapshotTaken' | 'snapshotInstalled'
      readonly index: Index
      readonly term: Term
      readonly sizeBytes: number
    }
  /** This leader sends a snapshot to `peer`; `moved` comes about once a second. */
  | {
      readonly type: 'snapshotTransfer'
      readonly peer: ServerId
      readonly index: Index
      readonly term: Term
      readonly phase: TransferPhase
      /** Content sent by all attempts; `newBytes` of them since the last observation. */
      readonly sentBytes: number
      readonly newBytes: number
      /** Up to where it has been sent. */
      readonly offset: number
      readonly sizeBytes: number
      readonly attempts: number
    }
  | {
      readonly type: 'staging'
      readonly id: ServerId
      readonly phase: StagingPhase
      /** Rounds of catching up that have ended. */
      readonly rounds: number
      /** Entries that the server lacks; `undefined` while the leader does not know. */
      readonly behind: number | undefined
      /** Why it was abandoned. */
      readonly error?: SwarmError
    }
  /** The state was replaced by `Raft.restore`. */
  | { readonly type: 'restored'; readonly index: Index; readonly sizeBytes: number }
  | { readonly type: 'fatal'; readonly error: SwarmError }

export type ObservationType = Observation['type']

/** Which observations are wanted: types, or a question to each. Default: all. */
export type ObservationFilter = readonly ObservationType[] | ((observation: Observation) => boolean)

/** Options of `Raft.observe`. */
export interface ObserveOptions {
  /** Ends the stream. */
  readonly signal?: AbortSignal
  /** Observations that wait to be read; default {@link OBSERVATIONS_MAX}. */
  readonly limit?: number
}

/** Observations that wait for one listener unless it says otherwise; the oldest are lost. */
export const OBSERVATIONS_MAX = 256

/**
 * The stream of one listener. It collects from the moment it is made; `for await` takes out, once.
 * It ends when its signal aborts, when the loop is left, and after the member's last word.
 */
export class ObservationStream implements AsyncIterable<Observation> {
  readonly #limit: number
  readonly #release: (stream: ObservationStream) => void
  readonly #signal: AbortSignal | undefined
  readonly #waiting: Observation[] = []
  readonly #onAbort = (): void => this.close()
  #wake: (() => void) | undefined
  #closed = false
  #dropped = 0

  constructor(options: ObserveOptions, release: (stream: ObservationStream) => void) {
    this.#limit = Math.max(1, options.limit ?? OBSERVATIONS_MAX)
    this.#release = release
    this.#signal = options.signal
    if (options.signal?.aborted === true) this.close()
    else options.signal?.addEventListener('abort', this.#onAbort, { once: true })
  }

  /** Observations that were lost because nobody read in time. */
  get dropped(): number {
    return this.#dropped
  }

  push(observation: Observation): void {
    if (this.#closed) return
    if (this.#waiting.length >= this.#limit) {
      this.#waiting.shift()
      this.#dropped += 1
    }
    this.#waiting.push(observation)
    this.#wake?.()
  }

  /** Nothing more comes; what waits can still be read. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#signal?.removeEventListener('abort', this.#onAbort)
    this.#release(this)
    this.#wake?.()
  }

  /** @yields each observation, in order */
  async *[Symbol.asyncIterator](): AsyncGenerator<Observation> {
    try {
      for (;;) {
        const next = this.#waiting.shift()
        if (next !== undefined) yield next
        else if (this.#closed) return
        else await this.#change()
      }
    } finally {
      this.close()
    }
  }

  #change(): Promise<void> {
    const woken = Promise.withResolvers<void>()
    this.#wake = woken.resolve
    return woken.promise
  }
}

/** Everyone who listens to one member. */
export class Observers {
  readonly #streams = new Map<ObservationStream, (observation: Observation) => boolean>()
  #closed = false

  /** A new listener. After `close` its stream is at its end at once. */
  add(filter: ObservationFilter | undefined, options: ObserveOptions): ObservationStream {
    const stream = new ObservationStream(options, (one) => this.#streams.delete(one))
    if (this.#closed) stream.close()
    else if (options.signal?.aborted !== true) this.#streams.set(stream, predicateOf(filter))
    return stream
  }

  tell(observation: Observation): void {
    for (const [stream, wants] of this.#streams) if (wants(observation)) stream.push(observation)
  }

  /** The member has stopped. */
  close(): void {
    this.#closed = true
    for (const stream of this.#streams.keys()) stream.close()
  }
}

function predicateOf(filter: ObservationFilter | undefined): (one: Observation) => boolean {
  if (filter === undefined) return () => true
  return typeof filter === 'function' ? filter : ({ type }) => filter.includes(type)
}
