/**
 * Requests and answers on one session's control stream, with correlation ids, and the pings that
 * prove liveness. A lane ends with its session: what is pending then fails at once.
 */
import type { Clock, Timer } from '../base/clock.ts'
import { SwarmError } from '../base/errors.ts'
import {
  decodeControl,
  encodeControl,
  type ControlMessage,
  type Hello,
  type Request,
} from './control-message.ts'
import { FrameChannel } from './frame-channel.ts'
import type { MuxedStream } from './muxed-stream.ts'
import { CONTROL_MESSAGE_BYTES_MAX, REQUEST_TIMEOUT_MS, type RequestOptions } from './ports.ts'
import { fromWireError, toWireError } from './wire-errors.ts'

/** Bytes that wait for a peer that reads slowly; requests beyond are refused. */
export const CONTROL_QUEUE_BYTES_MAX = 8 * 1024 * 1024
/** Requests of one peer that may be answered at the same time; more are refused. */
export const INBOUND_REQUESTS_MAX = 512
/** Requests to one peer that may wait for an answer; more are refused. */
export const OUTBOUND_REQUESTS_MAX = 2048

/** Answers requests, by method. Shared by all links. */
export type RequestHandlers = ReadonlyMap<
  string,
  (body: unknown, nodeId: string) => Promise<unknown>
>

/** What a lane is built from. */
export interface ControlLaneComponents {
  readonly clock: Clock
  readonly stream: MuxedStream
  readonly handlers: RequestHandlers
}

/** What the session is told. */
export interface ControlLaneEvents {
  onBytes(): void
  onHello(hello: Hello): void
  onRoundTrip(rttMs: number): void
  onClose(reason: string): void
}

interface Pending {
  readonly settle: (message: ControlMessage | SwarmError) => void
}

/** The control stream of one session. */
export class ControlLane {
  readonly #nodeId: string
  readonly #clock: Clock
  readonly #handlers: RequestHandlers
  readonly #events: ControlLaneEvents
  readonly #channel: FrameChannel
  readonly #stream: MuxedStream
  /** Requests sent and not answered, by correlation id. */
  readonly #pending = new Map<number, Pending>()
  #nextId = 1
  /** Handlers that run now. */
  #answering = 0
  /** The ping under way, and when it was sent. */
  #ping: { readonly id: number; readonly sentMs: number } | undefined
  #closed = false

  constructor(nodeId: string, components: ControlLaneComponents, events: ControlLaneEvents) {
    this.#nodeId = nodeId
    this.#clock = components.clock
    this.#handlers = components.handlers
    this.#stream = components.stream
    this.#events = events
    const options = {
      frameBytesMax: CONTROL_MESSAGE_BYTES_MAX,
      queueBytesMax: CONTROL_QUEUE_BYTES_MAX,
    }
    this.#channel = new FrameChannel(components.stream, options, {
      onBytes: () => events.onBytes(),
      onFrame: (body) => this.#onMessage(decodeControl(body)),
      onClose: (reason) => this.#onClose(reason),
    })
  }

  /** Requests that wait for answers here or there. */
  get inFlight(): number {
    return this.#pending.size + this.#answering
  }

  /** Sends on the control stream so far. */
  get sends(): number {
    return this.#channel.sends
  }

  hello(hello: Hello): void {
    this.#channel.write(encodeControl(hello))
  }

  /** Sends a ping; its echo refreshes liveness and measures the round trip. */
  ping(): void {
    const id = this.#nextId++
    this.#ping = { id, sentMs: this.#clock.monotonicMs() }
    this.#channel.writeLatest('ping', encodeControl({ type: 'ping', id }))
  }

  /**
   * @throws UNAVAILABLE, TIMED_OUT, ABORTED, RESOURCE_EXHAUSTED, INVALID_ARGUMENT, or the handler's
   */
  async request(method: string, body: unknown, options: RequestOptions = {}): Promise<unknown> {
    const subject = `request ${method} to node ${this.#nodeId}`
    const id = this.#nextId++
    const frame = encodeControl({ type: 'request', id, method, body })
    if (frame.length > CONTROL_MESSAGE_BYTES_MAX) {
      throw new SwarmError('INVALID_ARGUMENT', `${subject}: ${frame.length} bytes are too many`)
    }
    if (this.#closed) throw new SwarmError('UNAVAILABLE', `${subject}: the link is closed`)
    if (options.signal?.aborted === true) throw aborted(subject, options.signal)
    if (this.#pending.size >= OUTBOUND_REQUESTS_MAX || !this.#channel.write(frame)) {
      throw new SwarmError('RESOURCE_EXHAUSTED', `${subject}: too much waits for this node`)
    }
    const message = await this.#answer(id, subject, options)
    if (message.type === 'failure') throw fromWireError(message.code, message.message)
    return message.type === 'answer' ? message.body : undefined
  }

  #answer(id: number, subject: string, options: RequestOptions): Promise<ControlMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<ControlMessage>()
    const timeoutMs = options.timeoutMs ?? REQUEST_TIMEOUT_MS
    const onAbort = (): void => settle(aborted(subject, options.signal))
    const timer: Timer = this.#clock.after(timeoutMs, () => {
      settle(new SwarmError('TIMED_OUT', `${subject}: no answer within ${timeoutMs} ms`))
    })
    const settle = (result: ControlMessage | SwarmError): void => {
      timer.cancel()
      options.signal?.removeEventListener('abort', onAbort)
      this.#pending.delete(id)
      if (result instanceof SwarmError) reject(result)
      else resolve(result)
    }
    options.signal?.addEventListener('abort', onAbort, { once: true })
    this.#pending.set(id, { settle })
    return promise
  }

  #onMessage(message: ControlMessage): void {
    switch (message.type) {
      case 'hello':
        this.#events.onHello(message)
        return
      case 'ping':
        this.#channel.writeLatest('pong', encodeControl({ type: 'pong', id: message.id }))
        return
      case 'pong':
        this.#onPong(message.id)
        return
      case 'request':
        this.#onRequest(message)
        return
      case 'answer':
      case 'failure':
        this.#pending.get(message.id)?.settle(message)
        return
      default:
        message satisfies never
    }
  }

  #onPong(id: number): void {
    if (this.#ping?.id !== id) return
    this.#events.onRoundTrip(this.#clock.monotonicMs() - this.#ping.sentMs)
    this.#ping = undefined
  }

  #onRequest(request: Request): void {
    if (this.#answering >= INBOUND_REQUESTS_MAX) {
      const error = new SwarmError(
        'RESOURCE_EXHAUSTED',
        `node: answers ${this.#answering} requests`,
      )
      this.#reply({ type: 'failure', id: request.id, ...toWireError(error) })
      return
    }
    // Owned by this lane: it settles by itself, and a failed assertion inside stays uncaught.
    void this.#serve(request)
  }

  async #serve(request: Request): Promise<void> {
    this.#answering += 1
    const reply = await this.#handle(request)
    this.#answering -= 1
    this.#reply(reply)
  }

  async #handle(request: Request): Promise<ControlMessage> {
    const { id, method } = request
    try {
      const handler = this.#handlers.get(method)
      if (handler === undefined) {
        throw new SwarmError('UNIMPLEMENTED', `method "${method}": has no handler on this node`)
      }
      return { type: 'answer', id, body: await handler(request.body, this.#nodeId) }
    } catch (error) {
      return { type: 'failure', id, ...toWireError(error) }
    }
  }

  #reply(message: ControlMessage): void {
    if (this.#closed) return
    if (this.#channel.write(this.#encodeReply(message))) return
    // The peer asks and does not read what it is told. Nothing may grow without bound here.
    this.#stream.abort(new SwarmError('RESOURCE_EXHAUSTED', 'control stream: answers are not read'))
  }

  #encodeReply(message: ControlMessage): Uint8Array {
    const frame = encodeControl(message)
    if (frame.length <= CONTROL_MESSAGE_BYTES_MAX || message.type !== 'answer') return frame
    const error = new SwarmError('RESOURCE_EXHAUSTED', `answer: ${frame.length} bytes are too many`)
    return encodeControl({ type: 'failure', id: message.id, ...toWireError(error) })
  }

  #onClose(reason: string): void {
    this.#closed = true
    const error = `node ${this.#nodeId}: link lost before the answer (${reason})`
    for (const { settle } of this.#pending.values()) {
      settle(new SwarmError('UNAVAILABLE', error))
    }
    this.#events.onClose(reason)
  }
}

function aborted(subject: string, signal: AbortSignal | undefined): SwarmError {
  return new SwarmError('ABORTED', `${subject}: withdrawn by the caller`, {
    cause: signal?.reason as unknown,
  })
}
