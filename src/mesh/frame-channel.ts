/**
 * A long-lived stream as frames in both directions. It never pauses its reader: the far side's
 * writer is bounded and so are the frames, and what is read is handled at once.
 */
import { errorText, isSwarmError, SwarmError } from '../base/errors.ts'
import { FrameReader } from './frames.ts'
import { FrameWriter } from './frame-writer.ts'
import type { MuxedStream, StreamBytes } from './muxed-stream.ts'

/** Limits of a channel. */
export interface FrameChannelOptions {
  readonly frameBytesMax: number
  readonly queueBytesMax: number
}

/** What the owner of a channel is told. A SwarmError thrown by `onFrame` aborts the stream. */
export interface FrameChannelEvents {
  /** Bytes came, perhaps not yet a whole frame: the peer lives. */
  onBytes(): void
  onFrame(body: Uint8Array): void
  /** Once, when the stream is closed or reset; nothing follows. */
  onClose(reason: string): void
}

/** Frames over one libp2p stream. */
export class FrameChannel {
  readonly #stream: MuxedStream
  readonly #reader: FrameReader
  readonly #writer: FrameWriter
  readonly #events: FrameChannelEvents
  #closed = false

  constructor(stream: MuxedStream, options: FrameChannelOptions, events: FrameChannelEvents) {
    this.#stream = stream
    this.#events = events
    this.#reader = new FrameReader(options.frameBytesMax)
    this.#writer = new FrameWriter(stream, options)
    stream.addEventListener('message', (event) => this.#onMessage(event.data))
    stream.addEventListener('remoteCloseWrite', () => this.#onClose('ended by the peer'))
    stream.addEventListener('close', (event) => {
      this.#onClose(event.error === undefined ? 'closed' : errorText(event.error))
    })
    if (stream.status !== 'open') queueMicrotask(() => this.#onClose('closed'))
  }

  /** Sends so far. */
  get sends(): number {
    return this.#writer.sends
  }

  /** Queues a frame; false when it is dropped because the queue is full or the stream closed. */
  write(body: Uint8Array): boolean {
    return this.#writer.write(body)
  }

  /** Queues a frame that replaces a waiting one of the same key. */
  writeLatest(key: string, body: Uint8Array): boolean {
    return this.#writer.writeLatest(key, body)
  }

  #onMessage(data: StreamBytes): void {
    if (this.#closed) return
    this.#events.onBytes()
    try {
      for (const frame of this.#reader.push(data.subarray())) this.#events.onFrame(frame)
    } catch (error) {
      if (!isSwarmError(error)) throw error
      this.#stream.abort(error)
      this.#onClose(errorText(error))
    }
  }

  #onClose(reason: string): void {
    if (this.#closed) return
    this.#closed = true
    if (this.#stream.status === 'open') this.#stream.abort(closedError(reason))
    this.#events.onClose(reason)
  }
}

function closedError(reason: string): SwarmError {
  return new SwarmError('UNAVAILABLE', `stream: ${reason}`)
}
