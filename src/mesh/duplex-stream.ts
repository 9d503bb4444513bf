/**
 * A `Duplex` over its own libp2p stream. Frames with a kind byte carry data, the end, and errors,
 * so that a lost connection is never mistaken for an end (libp2p closes a stream of a lost
 * connection like one that ended well).
 *
 * Memory is bounded: the writer waits for the stream to take each piece; the reader pauses the
 * stream when `INBOX_BYTES_MAX` wait, and Yamux then grants no more than its window (256 KiB, set
 * in `host.ts`). Never paused inside `resume()`'s own dispatch, which Yamux forgets
 * (`reference/libp2p.md` §3.2 B).
 */
import { encode } from 'msgpackr'
import { assert } from '../base/assert.ts'
import { errorText, isSwarmError, SwarmError } from '../base/errors.ts'
import { asFields, decodeMessagePack, text } from './control-message.ts'
import { encodeFrame, FrameReader, SEND_BYTES_MAX } from './frames.ts'
import { type MuxedStream, type StreamBytes, writable } from './muxed-stream.ts'
import type { Duplex } from './ports.ts'
import { fromWireError, toWireError } from './wire-errors.ts'

/** Bytes that wait for the consumer before the stream is paused. */
export const INBOX_BYTES_MAX = 128 * 1024

/** Most bytes of a header; data frames are as long at most. */
export const STREAM_HEADER_BYTES_MAX = SEND_BYTES_MAX

const FRAME_BYTES_MAX = SEND_BYTES_MAX + 1
const DATA_BYTES_MAX = SEND_BYTES_MAX - 8

const DATA = 0
const END = 1
const FAILURE = 2
const HEADER = 3
const ACCEPTED = 4

/** What the stream's first frame says. */
export interface StreamHeader {
  readonly method: string
  readonly header: unknown
}

/** A duplex stream to a member. */
export class DuplexStream implements Duplex {
  readonly nodeId: string
  readonly #stream: MuxedStream
  readonly #onBytes: () => void
  readonly #reader = new FrameReader(FRAME_BYTES_MAX)
  readonly #opening = Promise.withResolvers<StreamHeader | 'accepted'>()
  /** Data not yet consumed; its bytes are `#inboxBytes`. */
  #inbox: Uint8Array[] = []
  #inboxBytes = 0
  /** Set once: how reading ended. */
  #outcome: 'ended' | SwarmError | undefined
  /** Set when the stream is gone: writing is over, whatever was read. */
  #lost: SwarmError | undefined
  #sentEnd = false
  /** Incoming data has no reader any more. */
  #discarding = false
  #resuming = false
  #wake: (() => void) | undefined

  /** `onBytes` is called when anything comes: the peer lives. */
  constructor(nodeId: string, stream: MuxedStream, onBytes: () => void) {
    this.nodeId = nodeId
    this.#stream = stream
    this.#onBytes = onBytes
    this.#opening.promise.catch(() => {})
    stream.addEventListener('message', (event) => this.#onMessage(event.data))
    stream.addEventListener('close', (event) => {
      this.#onLost(lost(nodeId, event.error === undefined ? 'closed' : errorText(event.error)))
    })
    if (stream.status !== 'open') queueMicrotask(() => this.#onLost(lost(nodeId, 'closed')))
  }

  /** Resolves when the stream is closed in both directions or reset. */
  closed(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#stream.status !== 'open') resolve()
      else this.#stream.addEventListener('close', () => resolve(), { once: true })
    })
  }

  /** Opener: names the method. Resolves when the far side has a handler. @throws its error */
  async requestOpening(opening: StreamHeader): Promise<void> {
    const body = encode(opening)
    if (body.length > STREAM_HEADER_BYTES_MAX) {
      throw new SwarmError('INVALID_ARGUMENT', `stream ${opening.method}: header is too large`)
    }
    this.#send(HEADER, body)
    await this.#opening.promise
  }

  /** Acceptor: the first frame. @throws UNAVAILABLE, INVALID_ARGUMENT */
  async opening(): Promise<StreamHeader> {
    const opening = await this.#opening.promise
    if (opening === 'accepted') throw new SwarmError('INVALID_ARGUMENT', 'stream: has no header')
    return opening
  }

  /** Acceptor: tells the opener that a handler has the stream. */
  accept(): void {
    this.#send(ACCEPTED, new Uint8Array(0))
  }

  get source(): AsyncIterable<Uint8Array> {
    return { [Symbol.asyncIterator]: () => this.#read() }
  }

  async write(chunk: Uint8Array): Promise<void> {
    assert(!this.#sentEnd, 'write after end of a mesh stream')
    for (let offset = 0; offset < chunk.length; offset += DATA_BYTES_MAX) {
      this.#send(DATA, chunk.subarray(offset, offset + DATA_BYTES_MAX))
      await writable(this.#stream)
    }
    if (this.#lost !== undefined) throw this.#lost
  }

  async end(): Promise<void> {
    if (this.#sentEnd) return
    this.#send(END, new Uint8Array(0))
    this.#sentEnd = true
    await writable(this.#stream)
    this.#maybeFinish()
  }

  abort(reason: Error): void {
    this.#onLost(isSwarmError(reason) ? reason : lost(this.nodeId, errorText(reason)))
    this.#stream.abort(reason)
  }

  /** Ends the stream with an error that the far reader gets after the data sent so far. */
  fail(error: unknown): void {
    const wire = toWireError(error)
    this.discard()
    if (this.#lost !== undefined) return
    if (this.#stream.writeStatus !== 'writable' || this.#sentEnd) {
      this.#stream.abort(fromWireError(wire.code, wire.message))
      return
    }
    this.#send(FAILURE, encode(wire))
    this.#sentEnd = true
  }

  /** Drops what still comes in, so that the far writer is not held up. */
  discard(): void {
    this.#discarding = true
    this.#inbox = []
    this.#inboxBytes = 0
    this.#maybeResume()
  }

  async *#read(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const chunk = this.#inbox.shift()
      if (chunk !== undefined) {
        this.#inboxBytes -= chunk.length
        this.#maybeResume()
        yield chunk
      } else if (this.#outcome === 'ended') {
        return
      } else if (this.#outcome !== undefined) {
        throw this.#outcome
      } else {
        await new Promise<void>((resolve) => (this.#wake = resolve))
      }
    }
  }

  #send(kind: number, body: Uint8Array): void {
    if (this.#lost !== undefined) throw this.#lost
    const tagged = new Uint8Array(1 + body.length)
    tagged[0] = kind
    tagged.set(body, 1)
    try {
      this.#stream.send(encodeFrame(tagged))
    } catch (error) {
      throw new SwarmError('UNAVAILABLE', `stream to node ${this.nodeId}: closed`, { cause: error })
    }
  }

  #onMessage(data: StreamBytes): void {
    this.#onBytes()
    try {
      for (const frame of this.#reader.push(data.subarray())) this.#onFrame(frame)
    } catch (error) {
      if (!isSwarmError(error)) throw error
      this.abort(error)
    }
    this.#maybePause()
  }

  #onFrame(frame: Uint8Array): void {
    const kind = frame[0] ?? -1
    const body = frame.subarray(1)
    switch (kind) {
      case DATA:
        this.#onData(body)
        return
      case END:
        this.#onOutcome('ended')
        this.#maybeFinish()
        return
      case FAILURE: {
        const fields = asFields(decodeMessagePack(body, 'stream failure'))
        this.abort(fromWireError(text(fields, 'code'), text(fields, 'message')))
        return
      }
      case HEADER: {
        const fields = asFields(decodeMessagePack(Uint8Array.from(body), 'stream header'))
        this.#opening.resolve({ method: text(fields, 'method'), header: fields['header'] })
        return
      }
      case ACCEPTED:
        this.#opening.resolve('accepted')
        return
      default:
        throw new SwarmError('INVALID_ARGUMENT', `stream frame: unknown kind ${kind}`)
    }
  }

  #onData(body: Uint8Array): void {
    if (this.#discarding || this.#outcome !== undefined) return
    this.#inbox.push(body)
    this.#inboxBytes += body.length
    this.#wakeReader()
  }

  #onLost(error: SwarmError): void {
    this.#lost ??= error
    this.#opening.reject(error)
    this.#onOutcome(error)
  }

  #onOutcome(outcome: 'ended' | SwarmError): void {
    this.#outcome ??= outcome
    this.#wakeReader()
  }

  #wakeReader(): void {
    this.#wake?.()
    this.#wake = undefined
  }

  /** Both directions are done: close under them. */
  #maybeFinish(): void {
    if (this.#outcome !== 'ended' || !this.#sentEnd) return
    this.#stream
      .close()
      .catch((error: unknown) => this.#stream.abort(lost(this.nodeId, errorText(error))))
  }

  #maybePause(): void {
    if (this.#inboxBytes < INBOX_BYTES_MAX || this.#stream.readStatus !== 'readable') return
    if (!this.#resuming) this.#stream.pause()
  }

  #maybeResume(): void {
    if (this.#stream.readStatus !== 'paused' || this.#inboxBytes >= INBOX_BYTES_MAX / 2) return
    this.#resuming = true
    this.#stream.resume()
    this.#resuming = false
    queueMicrotask(() => this.#maybePause())
  }
}

function lost(nodeId: string, reason: string): SwarmError {
  return new SwarmError('UNAVAILABLE', `stream to node ${nodeId}: lost (${reason})`)
}
