/**
 * One exchange of join messages over a stream: send, then wait for exactly one answer. A message
 * that nobody waits for ends the exchange, and so does one above the limit.
 */
import { errorText, SwarmError } from '../base/errors.ts'
import { within } from '../base/deadline.ts'
import { encodeFrame, FrameReader } from './frames.ts'
import { decodeJoin, encodeJoin, type JoinMessage } from './join-message.ts'
import { type MuxedStream, type StreamBytes, writable } from './muxed-stream.ts'

/** Answers that may have come before they are asked for. */
const EARLY_MESSAGES_MAX = 1

/** A stream of join messages. */
export class JoinExchange {
  readonly #stream: MuxedStream
  readonly #reader: FrameReader
  readonly #early: JoinMessage[] = []
  #waiting: PromiseWithResolvers<JoinMessage> | undefined
  #ended: SwarmError | undefined

  constructor(stream: MuxedStream, limitBytes: number) {
    this.#stream = stream
    this.#reader = new FrameReader(limitBytes)
    stream.addEventListener('message', (event) => this.#onMessage(event.data))
    stream.addEventListener('remoteCloseWrite', () =>
      this.#end('the other side ended the exchange'),
    )
    stream.addEventListener('close', (event) => {
      this.#end(event.error === undefined ? 'the connection was closed' : errorText(event.error))
    })
    if (stream.status !== 'open') this.#end('the connection was closed')
  }

  /** @throws UNAVAILABLE when the exchange has ended */
  async send(message: JoinMessage): Promise<void> {
    try {
      this.#stream.send(encodeFrame(encodeJoin(message)))
    } catch (error) {
      throw this.#ended ?? new SwarmError('UNAVAILABLE', 'join: stream closed', { cause: error })
    }
    await writable(this.#stream)
  }

  /** The next message. @throws UNAVAILABLE, UNAUTHENTICATED malformed, or the signal's reason */
  receive(signal: AbortSignal): Promise<JoinMessage> {
    const early = this.#early.shift()
    if (early !== undefined) return Promise.resolve(early)
    if (this.#ended !== undefined) return Promise.reject(this.#ended)
    this.#waiting = Promise.withResolvers()
    return within(signal, this.#waiting.promise)
  }

  /** Ends the exchange well: what was sent arrives. */
  async close(signal: AbortSignal): Promise<void> {
    await this.#stream.close({ signal })
  }

  abort(error: Error): void {
    this.#stream.abort(error)
  }

  #onMessage(data: StreamBytes): void {
    try {
      for (const frame of this.#reader.push(data.subarray())) this.#deliver(decodeJoin(frame))
    } catch (error) {
      this.#fail(
        error instanceof SwarmError
          ? error
          : new SwarmError('INTERNAL', 'join: stream failed', { cause: error }),
      )
    }
  }

  #deliver(message: JoinMessage): void {
    if (this.#waiting !== undefined) {
      this.#waiting.resolve(message)
      this.#waiting = undefined
    } else if (this.#early.length < EARLY_MESSAGES_MAX) {
      this.#early.push(message)
    } else {
      throw new SwarmError('RESOURCE_EXHAUSTED', 'join: messages out of turn')
    }
  }

  #end(reason: string): void {
    this.#fail(new SwarmError('UNAVAILABLE', `join: ${reason}`))
  }

  #fail(error: SwarmError): void {
    this.#ended ??= error
    this.#waiting?.reject(error)
    this.#waiting = undefined
    if (error.code !== 'UNAVAILABLE') this.#stream.abort(error)
  }
}
