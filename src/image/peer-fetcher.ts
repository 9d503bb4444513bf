/**
 * Brings blobs from other nodes.
 *
 * - Peers are tried in random order, so that load spreads over all who have an image.
 * - A blob goes on at the offset where a failed peer stopped, from another peer. Who lied cannot be
 *   told when two have contributed; then each is tried alone from the start.
 * - While a round through all peers brings something, another follows: one peer behind a bad link
 *   is enough in the end.
 * - A peer that sends too much, stalls, or sends other bytes than the digest says is left out for
 *   the rest of this blob. What is committed always has its digest and size.
 */
import { delay } from '../base/clock.ts'
import type { Clock } from '../base/clock.ts'
import { SwarmError, errorText, isSwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import type { ContentStore, StagedBlob } from './content-store.ts'
import { sha256 } from './digest.ts'
import type { Digest } from './digest.ts'
import { METHODS, decodeBody } from './peer-protocol.ts'
import type { ResolveAnswer } from './peer-protocol.ts'
import type { ImagePeers } from './ports.ts'
import { withdrawn } from './shared-work.ts'

/** What fetching needs of its surroundings. */
export interface FetcherComponents {
  readonly clock: Clock
  readonly log: Logger
  readonly random: Random
  readonly peers: ImagePeers
}

/** One answer of a peer. */
export type PeerAnswer = NonNullable<ResolveAnswer>

/** Time for one small question. */
const REQUEST_TIMEOUT_MS = 3000
/** Time for one small question to which this node has an answer of its own. */
const SECOND_OPINION_MS = 500
/** Time without a byte after which a download goes to another peer. */
const STALL_TIMEOUT_MS = 15_000
/** Pause before the next round through all peers. */
const ROUND_PAUSE_MS = 500
/** Peers that are asked when this node has an answer of its own. */
const MAX_SECOND_OPINIONS = 64
/** Peers that are asked the same question at once. */
const PEERS_AT_ONCE = 16

/** Failures that an error message tells, the last ones. */
const MAX_REASONS = 4

/** How a download from one peer ended. */
type Ending = 'complete' | 'broken' | 'lied'

interface Wanted {
  readonly digest: Digest
  readonly sizeBytes: number
  /** Peers that are left out. */
  readonly liars: Set<string>
  /** What went wrong with whom, for the message. */
  readonly failures: string[]
}

interface Attempt extends Wanted {
  blob: StagedBlob
  /** Peers whose bytes are in `blob`. */
  readonly contributors: Set<string>
}

/** The client side of the exchange. */
export class PeerFetcher {
  readonly #components: FetcherComponents
  readonly #store: ContentStore

  constructor(components: FetcherComponents, store: ContentStore) {
    this.#components = components
    this.#store = store
  }

  /**
   * Asks peers what `reference` means. A given name beats a learned one, then the later generation.
   * @param isSecondOpinion whether there is an answer at hand: then few are asked, for a short time
   * @returns undefined when every peer said that it has nothing
   * @throws UNAVAILABLE when nobody had it and somebody did not answer
   */
  async resolve(
    reference: string,
    signal: AbortSignal,
    isSecondOpinion = false,
  ): Promise<PeerAnswer | undefined> {
    let best: PeerAnswer | undefined
    let asked = 0
    const timeoutMs = isSecondOpinion ? SECOND_OPINION_MS : REQUEST_TIMEOUT_MS
    const ask = async (peer: string, askSignal: AbortSignal): Promise<boolean> => {
      asked++
      const options = { signal: askSignal, timeoutMs }
      const answer = await this.#request(peer, METHODS.resolve, { reference }, options)
      const found = decodeBody('resolveAnswer', answer)
      if (found !== null && (best === undefined || isBetter(found, best))) best = found
      return false
    }
    const isEnough = (): boolean =>
      best?.isLearned === false || (isSecondOpinion && asked >= MAX_SECOND_OPINIONS)
    const silent = await this.#askAll(signal, ask, isEnough)
    if (best === undefined && silent > 0) throw unreachable(`image "${reference}"`, silent)
    return best
  }

  /**
   * Fetches an index, manifest or config into the store.
   * @returns false when every peer said that it has nothing
   * @throws UNAVAILABLE, STORAGE_FULL, ABORTED
   */
  async fetchDocument(digest: Digest, signal: AbortSignal): Promise<boolean> {
    if (this.#store.has(digest)) return true
    let bytes: Uint8Array | undefined
    const ask = async (peer: string, askSignal: AbortSignal): Promise<boolean> => {
      const options = { signal: askSignal, timeoutMs: REQUEST_TIMEOUT_MS }
      const answer = await this.#request(peer, METHODS.manifest, { digest }, options)
      const found = decodeBody('manifestAnswer', answer)
      if (found === null) return false
      if (sha256(found.bytes) !== digest) throw corrupted(digest, peer)
      bytes = found.bytes
      return true
    }
    const silent = await this.#askAll(signal, ask, () => bytes !== undefined)
    if (bytes === undefined) {
      if (silent > 0) throw unreachable(`manifest ${digest}`, silent)
      return false
    }
    const blob = await this.#store.stage()
    try {
      await blob.append(bytes)
      await this.#store.commit(blob)
    } finally {
      await blob.discard()
    }
    return true
  }

  /** Fetches a blob into the store. @throws UNAVAILABLE, STORAGE_FULL, ABORTED */
  async fetchBlob(digest: Digest, sizeBytes: number, signal: AbortSignal): Promise<void> {
    if (this.#store.has(digest)) return
    const liars = new Set<string>()
    const failures: string[] = []
    const together = await this.#download({ digest, sizeBytes, liars, failures }, signal)
    if (together.isDone) return
    // Several contributed and the sum is wrong: each alone, from the start.
    if (together.isMixed) {
      for (const peer of this.#shuffledPeers(liars)) {
        const only = new Set(this.#components.peers.peers().filter((other) => other !== peer))
        const alone = await this.#download({ digest, sizeBytes, liars: only, failures }, signal)
        if (alone.isDone) return
      }
    }
    const last = failures.slice(-MAX_REASONS)
    const reasons = last.length === 0 ? 'no peer can be reached' : last.join('; ')
    throw new SwarmError('UNAVAILABLE', `blob ${digest}: no node could send it: ${reasons}`)
  }

  async #download(
    wanted: Wanted,
    signal: AbortSignal,
  ): Promise<{ readonly isDone: boolean; readonly isMixed: boolean }> {
    const attempt: Attempt = { ...wanted, blob: await this.#store.stage(), contributors: new Set() }
    try {
      for (;;) {
        const before = attempt.blob.sizeBytes
        const result = await this.#round(attempt, signal)
        if (result !== 'incomplete') {
          return { isDone: result === 'done', isMixed: result === 'mixed' }
        }
        if (attempt.blob.sizeBytes <= before) return { isDone: false, isMixed: false }
        await delay(this.#components.clock, ROUND_PAUSE_MS, signal)
      }
    } finally {
      await attempt.blob.discard()
    }
  }

  /** Goes through all peers once. */
  async #round(attempt: Attempt, signal: AbortSignal): Promise<'done' | 'mixed' | 'incomplete'> {
    for (const peer of this.#shuffledPeers(attempt.liars)) {
      const before = attempt.blob.sizeBytes
      const ending = await this.#downloadFrom(peer, attempt, signal)
      if (attempt.blob.sizeBytes > before) attempt.contributors.add(peer)
      if (ending === 'complete' && attempt.blob.digest === attempt.digest) {
        await this.#store.commit(attempt.blob)
        return 'done'
      }
      if (ending === 'broken') continue
      if (attempt.contributors.size > 1) return 'mixed'
      attempt.liars.add(peer)
      attempt.failures.push(`${peer}: corrupted`)
      this.#components.log.warn({ peer, blob: attempt.digest }, 'peer sent a corrupted blob')
      await attempt.blob.discard()
      attempt.blob = await this.#store.stage()
      attempt.contributors.clear()
    }
    return 'incomplete'
  }

  /** Appends what `peer` sends from the blob's end on. */
  async #downloadFrom(peer: string, wanted: Attempt, signal: AbortSignal): Promise<Ending> {
    const { digest, blob, sizeBytes, failures } = wanted
    using watch = new StallWatch(this.#components.clock, signal)
    try {
      const question = { digest, offset: blob.sizeBytes }
      const options = { signal: watch.signal }
      const chunks = this.#components.peers.download(peer, METHODS.blob, question, options)
      for await (const chunk of chunks) {
        watch.progress()
        if (blob.sizeBytes + chunk.length > sizeBytes) return 'lied'
        await blob.append(chunk)
      }
    } catch (error) {
      if (signal.aborted) throw withdrawn(`blob ${digest}`, signal)
      if (isSwarmError(error, 'STORAGE_FULL')) throw error
      failures.push(`${peer}: ${errorText(error)}`)
      this.#components.log.debug({ peer, blob: digest, err: error }, 'blob download failed')
      return 'broken'
    }
    if (blob.sizeBytes === sizeBytes) return 'complete'
    failures.push(`${peer}: sent too little`)
    return 'broken'
  }

  /**
   * Asks all peers, some at once. `ask` returns true when the others of its batch need not be
   * waited for; after each batch `isEnough` decides. Returns how many peers gave no answer.
   */
  async #askAll(
    signal: AbortSignal,
    ask: (peer: string, signal: AbortSignal) => Promise<boolean>,
    isEnough: () => boolean,
  ): Promise<number> {
    const peers = this.#shuffledPeers(new Set())
    let silent = 0
    for (let start = 0; start < peers.length; start += PEERS_AT_ONCE) {
      const batch = peers.slice(start, start + PEERS_AT_ONCE)
      await firstSettling(batch, signal, async (peer, askSignal) => {
        try {
          return await ask(peer, askSignal)
        } catch (error) {
          if (!askSignal.aborted) silent++
          this.#components.log.debug({ peer, err: error }, 'image question failed')
          return false
        }
      })
      if (signal.aborted) throw withdrawn('image', signal)
      if (isEnough()) break
    }
    return silent
  }

  async #request(
    peer: string,
    method: string,
    body: object,
    options: { readonly signal: AbortSignal; readonly timeoutMs: number },
  ): Promise<unknown> {
    using watch = new StallWatch(this.#components.clock, options.signal, options.timeoutMs)
    return await this.#components.peers.request(peer, method, body, { signal: watch.signal })
  }

  /** Fisher and Yates. */
  #shuffledPeers(without: ReadonlySet<string>): string[] {
    const peers = this.#components.peers.peers().filter((peer) => !without.has(peer))
    for (let last = peers.length - 1; last > 0; last--) {
      const other = this.#components.random.integer(last + 1)
      const [a, b] = [peers[last], peers[other]]
      if (a !== undefined && b !== undefined) peers.splice(last, 1, b)
      if (a !== undefined && b !== undefined) peers.splice(other, 1, a)
    }
    return peers
  }
}

/** Aborts when nothing progresses for a time, or when the outer signal aborts. */
class StallWatch implements Disposable {
  readonly #clock: Clock
  readonly #timeoutMs: number
  readonly #controller = new AbortController()
  #timer: { cancel(): void }
  readonly #outer: AbortSignal
  readonly #onAbort = (): void => this.#controller.abort(this.#outer.reason)

  constructor(clock: Clock, outer: AbortSignal, timeoutMs = STALL_TIMEOUT_MS) {
    this.#clock = clock
    this.#outer = outer
    this.#timeoutMs = timeoutMs
    this.#timer = this.#start()
    if (outer.aborted) this.#onAbort()
    outer.addEventListener('abort', this.#onAbort, { once: true })
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  progress(): void {
    this.#timer.cancel()
    this.#timer = this.#start()
  }

  [Symbol.dispose](): void {
    this.#timer.cancel()
    this.#outer.removeEventListener('abort', this.#onAbort)
  }

  #start(): { cancel(): void } {
    return this.#clock.after(this.#timeoutMs, () =>
      this.#controller.abort(new SwarmError('TIMED_OUT', 'peer: no answer in time')),
    )
  }
}

/** Runs `ask` for all; true as soon as one is true, false when all are false. */
async function firstSettling(
  peers: readonly string[],
  signal: AbortSignal,
  ask: (peer: string, signal: AbortSignal) => Promise<boolean>,
): Promise<boolean> {
  const controller = new AbortController()
  const onAbort = (): void => controller.abort(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  try {
    return await new Promise<boolean>((resolve, reject) => {
      const all = peers.map(async (peer) => {
        if (await ask(peer, controller.signal)) resolve(true)
      })
      Promise.all(all).then(() => resolve(false), reject)
    })
  } finally {
    controller.abort()
    signal.removeEventListener('abort', onAbort)
  }
}

function isBetter(a: PeerAnswer, b: PeerAnswer): boolean {
  if (a.isLearned !== b.isLearned) return !a.isLearned
  return a.generation > b.generation
}

function unreachable(subject: string, silent: number): SwarmError {
  return new SwarmError('UNAVAILABLE', `${subject}: not found, and ${silent} nodes did not answer`)
}

function corrupted(digest: Digest, peer: string): SwarmError {
  return new SwarmError('UNAVAILABLE', `manifest ${digest}: peer ${peer} sent other content`)
}
