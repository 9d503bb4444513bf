/**
 * A `Duplex` over its own libp2p stream. Frames with a kind carry data, the end, and errors, so
 * that a lost connection is never mistaken for an end (libp2p closes a stream of a lost connection
 * like one that ended well).
 *
 * Memory is bounded by credit: the writer never sends more than `STREAM_CREDIT_BYTES` beyond what
 * the reader has consumed, and who does so is cut. libp2p's own `pause()` is not used: Yamux
 * forgets it when it happens inside `resume()`, and then resets the stream (`reference/libp2p.md`
 * §3.2 B).
 */
import { encode } from 'msgpackr'
import { errorText, isSwarmError, SwarmError } from '../base/errors.ts'
import { asFields, decodeMessagePack, text } from './control-message.ts'
import {
  decodeAcknowledgement,
  DUPLEX_FRAME_BYTES_MAX,
  encodeAcknowledgement,
  encodeDuplexFrame,
  FRAME_KIND,
} from './duplex-frame.ts'
import { type DuplexComponents, DuplexWriter, STREAM_CREDIT_BYTES } from './duplex-writer.ts'
import { FrameReader } from './frames.ts'
import type { MuxedStream, StreamBytes } from './muxed-stream.ts'
import type { Duplex } from './ports.ts'
import { fromWireError, toWireError } from './wire-errors.ts'

/** Most bytes of a header. */
export const STREAM_HEADER_BYTES_MAX = DUPLEX_FRAME_BYTES_MAX - 1
/** What the reader consumes before it says so, when nothing else is to be acknowledged. */
const CONSUMED_STEP_BYTES = STREAM_CREDIT_BYTES / 4

const NO_BODY = new Uint8Array(0)

/** What the stream's first frame says. */
export interface StreamHeader {
  readonly method: string
  readonly header: unknown
}

/** A duplex stream to a member. */
export class DuplexStream implements Duplex {
  readonly nodeId: string
  readonly #stream: MuxedStream
  readonly #writer: DuplexWriter
  readonly #onBytes: () => void
  readonly #reader = new FrameReader(DUPLEX_FRAME_BYTES_MAX)
  readonly #opening = Promise.withResolvers<StreamHeader | 'accepted'>()
  /** Data not yet consumed; its bytes are `#inboxBytes`. */
  #inbox: Uint8Array[] = []
  #inboxBytes = 0
  /** What the far side has not been told yet. */
  #arrivedBytes = 0
  #consumedBytes = 0
  /** Set once: how reading ended. */
  #outcome: 'ended' | SwarmError | undefined
  /** Incoming data has no reader any more. */
  #discarding = false
  #wake: (() => void) | undefined

  constructor(
    nodeId: string,
    stream: MuxedStream,
    /** `onBytes` is called when anything comes: the peer lives. */
    components: DuplexComponents & { readonly onBytes: () => void },
  ) {
    this.nodeId = nodeId
    this.#stream = stream
    this.#writer = new DuplexWriter(stream, components)
    this.#onBytes = components.onBytes
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
    this.#writer.send(encodeDuplexFrame(FRAME_KIND.header, body))
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
    this.#writer.send(encodeDuplexFrame(FRAME_KIND.accepted, NO_BODY))
  }

  get source(): AsyncIterable<Uint8Array> {
    return { [Symbol.asyncIterator]: () => this.#read() }
  }

  write(chunk: Uint8Array): Promise<void> {
    return this.#writer.write(chunk)
  }

  async end(): Promise<void> {
    if (this.#writer.ended) return
    await this.#writer.finish(FRAME_KIND.end, NO_BODY)
    this.#maybeFinish()
  }

  abort(reason: Error): void {
    this.#onLost(isSwarmError(reason) ? reason : lost(this.nodeId, errorText(reason)))
    this.#stream.abort(reason)
  }

  /** Ends the stream with an error that the far reader gets after the data sent so far. */
  async fail(error: unknown): Promise<void> {
    const wire = toWireError(error)
    this.discard()
    if (this.#writer.ended) this.#stream.abort(fromWireError(wire.code, wire.message))
    if (this.#writer.lost !== undefined) return
    await this.#writer.finish(FRAME_KIND.failure, encode(wire))
  }

  /** Drops what still comes in, so that the far writer is not held up. */
  discard(): void {
    this.#discarding = true
    this.#consumedBytes += this.#inboxBytes
    this.#inbox = []
    this.#inboxBytes = 0
    this.#acknowledge()
  }

  async *#read(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const chunk = this.#inbox.shift()
      if (chunk !== undefined) {
        this.#inboxBytes -= chunk.length
        this.#consumedBytes += chunk.length
        if (this.#consumedBytes >= CONSUMED_STEP_BYTES) this.#acknowledge()
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

  #onMessage(data: StreamBytes): void {
    this.#onBytes()
    try {
      for (const frame of this.#reader.push(data.subarray())) this.#onFrame(frame)
      this.#acknowledgeArrived()
    } catch (error) {
      if (!isSwarmError(error)) throw error
      this.abort(error)
    }
  }

  #onFrame(frame: Uint8Array): void {
    const body = frame.subarray(1)
    switch (frame[0] ?? -1) {
      case FRAME_KIND.data:
        this.#onData(body)
        return
      case FRAME_KIND.acknowledgement:
        this.#writer.onAcknowledgement(decodeAcknowledgement(body))
        return
      case FRAME_KIND.end:
        this.#acknowledge()
        this.#onOutcome('ended')
        this.#maybeFinish()
        return
      case FRAME_KIND.failure: {
        const fields = asFields(decodeMessagePack(body, 'stream failure'))
        this.abort(fromWireError(text(fields, 'code'), text(fields, 'message')))
        return
      }
      case FRAME_KIND.header: {
        const fields = asFields(decodeMessagePack(Uint8Array.from(body), 'stream header'))
        this.#opening.resolve({ method: text(fields, 'method'), header: fields['header'] })
        return
      }
      case FRAME_KIND.accepted:
        this.#opening.resolve('accepted')
        return
      default:
        throw new SwarmError('INVALID_ARGUMENT', `stream frame: unknown kind ${frame[0]}`)
    }
  }

  #onData(body: Uint8Array): void {
    if (this.#outcome !== undefined) return
    this.#arrivedBytes += body.length
    if (this.#discarding) {
      this.#consumedBytes += body.length
      return
    }
    this.#inbox.push(body)
    this.#inboxBytes += body.length
    if (this.#inboxBytes > STREAM_CREDIT_BYTES) {
      throw new SwarmError('RESOURCE_EXHAUSTED', 'stream: the writer exceeds its credit')
    }
    this.#wakeReader()
  }

  #acknowledgeArrived(): void {
    if (this.#arrivedBytes > 0) this.#acknowledge()
  }

  /** Nobody waits for it after the far side's end, nor when the stream is gone. */
  #acknowledge(): void {
    if (this.#outcome !== undefined || this.#stream.writeStatus !== 'writable') return
    const counts = { arrivedBytes: this.#arrivedBytes, consumedBytes: this.#consumedBytes }
    if (counts.arrivedBytes + counts.consumedBytes === 0) return
    this.#arrivedBytes = 0
    this.#consumedBytes = 0
    this.#writer.send(encodeAcknowledgement(counts))
  }

  #onLost(error: SwarmError): void {
    this.#writer.lose(error)
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
    if (this.#outcome !== 'ended' || !this.#writer.ended) return
    this.#stream.close().catch((error: unknown) => {
      this.#stream.abort(lost(this.nodeId, errorText(error)))
    })
  }
}

function lost(nodeId: string, reason: string): SwarmError {
  return new SwarmError('UNAVAILABLE', `stream to node ${nodeId}: lost (${reason})`)
}
