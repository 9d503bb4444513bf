/**
 * A streaming tar reader: ustar, PAX (binary-safe), GNU long names, base-256 numbers.
 *
 * Bytes are pushed in as they come, events are pulled out; no I/O, no promise inside, so the same
 * reader serves the daemon (asynchronous) and the unpacking child. Memory is bounded: one block,
 * and one metadata body of at most `MAX_METADATA_BYTES`. Why own code: tar-stream decodes PAX
 * values as UTF-8 and so destroys capabilities; node-tar knows no xattrs.
 *
 * ```
 *  header ──x,L,K,g──► metadata ──► padding ──► header
 *    ├──entry──► body ──► padding ──► header
 *    └──zero block──► ended (the rest is ignored)
 * ```
 */
import { assert } from '../base/assert.ts'
import {
  BLOCK_BYTES,
  badTar,
  checkChecksum,
  decodeHeader,
  decodePax,
  rawSize,
  typeFlag,
  untilNul,
} from './tar-header.ts'
import type { PaxRecords, TarEntry } from './tar-header.ts'

/** What the reader reports. `data` is a view into the pushed chunk: use it before pulling on. */
export type TarEvent =
  | { readonly type: 'entry'; readonly entry: TarEntry }
  | { readonly type: 'data'; readonly bytes: Uint8Array }
  | { readonly type: 'entryEnd' }

/** Bounds on an archive; exceeding one is INVALID_ARGUMENT. */
export interface TarLimits {
  readonly maxEntries: number
}

/** Bytes of one PAX header or GNU long name. */
const MAX_METADATA_BYTES = 1 << 20
/** Metadata headers in a row before one entry; more is an attack. */
const MAX_METADATA_HEADERS = 8
const NO_RECORDS: PaxRecords = new Map()

type State =
  | { readonly name: 'header' }
  | { readonly name: 'metadata'; readonly flag: string; readonly body: Uint8Array; filled: number }
  | { readonly name: 'body'; remaining: number; readonly padding: number }
  | { readonly name: 'padding'; remaining: number }
  | { readonly name: 'ended' }

/** Reads one archive. */
export class TarReader {
  readonly #limits: TarLimits
  readonly #block = new Uint8Array(BLOCK_BYTES)
  /** Bytes of `#block` that are filled. */
  #blockFilled = 0
  #state: State = { name: 'header' }
  #entries = 0
  /** What precedes the next entry. */
  #pax = NO_RECORDS
  #longPath: string | undefined
  #longLink: string | undefined
  #metadataHeaders = 0

  constructor(limits: TarLimits) {
    this.#limits = limits
  }

  /**
   * Takes the next bytes.
   * @yields what they contain
   * @throws INVALID_ARGUMENT
   */
  *push(chunk: Uint8Array): Generator<TarEvent, void> {
    let rest = chunk
    while (rest.length > 0) {
      const state = this.#state
      switch (state.name) {
        case 'header':
          rest = this.#fillBlock(rest)
          if (this.#blockFilled === BLOCK_BYTES) yield* this.#onBlock()
          break
        case 'metadata':
          rest = this.#onMetadataBytes(state, rest)
          break
        case 'body': {
          const bytes = rest.subarray(0, state.remaining)
          rest = rest.subarray(bytes.length)
          state.remaining -= bytes.length
          yield { type: 'data', bytes }
          if (state.remaining === 0) yield this.#endEntry(state.padding)
          break
        }
        case 'padding': {
          const skipped = Math.min(rest.length, state.remaining)
          rest = rest.subarray(skipped)
          state.remaining -= skipped
          if (state.remaining === 0) this.#state = { name: 'header' }
          break
        }
        case 'ended':
          return
        default:
          state satisfies never
      }
    }
  }

  /** Says that no more bytes come. @throws INVALID_ARGUMENT when the archive is cut short */
  finish(): void {
    const isWhole = this.#state.name === 'header' && this.#blockFilled === 0
    if (this.#state.name === 'ended') return
    if (!isWhole || this.#metadataHeaders > 0) throw badTar('archive is cut short')
    if (this.#entries === 0) throw badTar('not a tar archive')
  }

  #fillBlock(rest: Uint8Array): Uint8Array {
    const bytes = rest.subarray(0, BLOCK_BYTES - this.#blockFilled)
    this.#block.set(bytes, this.#blockFilled)
    this.#blockFilled += bytes.length
    return rest.subarray(bytes.length)
  }

  *#onBlock(): Generator<TarEvent, void> {
    this.#blockFilled = 0
    if (this.#block.every((byte) => byte === 0)) {
      if (this.#metadataHeaders > 0) throw badTar('archive is cut short')
      this.#state = { name: 'ended' }
      return
    }
    checkChecksum(this.#block)
    const flag = typeFlag(this.#block)
    if (flag === 'x' || flag === 'g' || flag === 'L' || flag === 'K') {
      this.#beginMetadata(flag)
      return
    }
    const entry = this.#takeEntry()
    yield { type: 'entry', entry }
    const padding = paddingOf(entry.sizeBytes)
    if (entry.sizeBytes === 0) yield this.#endEntry(padding)
    else this.#state = { name: 'body', remaining: entry.sizeBytes, padding }
  }

  #beginMetadata(flag: string): void {
    const size = rawSize(this.#block)
    if (size === 0 || size > MAX_METADATA_BYTES) throw badTar('metadata header has a bad size')
    this.#metadataHeaders++
    if (this.#metadataHeaders > MAX_METADATA_HEADERS) throw badTar('too many metadata headers')
    this.#state = { name: 'metadata', flag, body: new Uint8Array(size), filled: 0 }
  }

  #onMetadataBytes(state: State & { name: 'metadata' }, rest: Uint8Array): Uint8Array {
    const bytes = rest.subarray(0, state.body.length - state.filled)
    state.body.set(bytes, state.filled)
    state.filled += bytes.length
    if (state.filled === state.body.length) {
      this.#takeMetadata(state.flag, state.body)
      this.#state = afterBody(paddingOf(state.body.length))
    }
    return rest.subarray(bytes.length)
  }

  #takeMetadata(flag: string, body: Uint8Array): void {
    if (flag === 'x') this.#pax = decodePax(body)
    else if (flag === 'L') this.#longPath = untilNul(body)
    else if (flag === 'K') this.#longLink = untilNul(body)
    // A global header ('g') is checked and dropped, as Go's reader (and so Docker) does.
    else {
      decodePax(body)
      this.#metadataHeaders--
    }
  }

  #takeEntry(): TarEntry {
    this.#entries++
    if (this.#entries > this.#limits.maxEntries) {
      throw badTar(`more than ${this.#limits.maxEntries} entries`)
    }
    const entry = decodeHeader(this.#block, {
      pax: this.#pax,
      ...(this.#longPath !== undefined && { longPath: this.#longPath }),
      ...(this.#longLink !== undefined && { longLink: this.#longLink }),
    })
    this.#pax = NO_RECORDS
    this.#longPath = undefined
    this.#longLink = undefined
    this.#metadataHeaders = 0
    return entry
  }

  #endEntry(padding: number): TarEvent {
    assert(padding < BLOCK_BYTES, 'padding is less than a block')
    this.#state = afterBody(padding)
    return { type: 'entryEnd' }
  }
}

function paddingOf(sizeBytes: number): number {
  return (BLOCK_BYTES - (sizeBytes % BLOCK_BYTES)) % BLOCK_BYTES
}

function afterBody(padding: number): State {
  return padding === 0 ? { name: 'header' } : { name: 'padding', remaining: padding }
}
