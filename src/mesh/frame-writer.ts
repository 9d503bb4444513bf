/**
 * Writes frames to one stream: collects what is given within one turn of the event loop into sends
 * of at most 64 KiB, keeps what the stream does not take in a bounded queue, and goes on at its
 * `drain`.
 *
 * Invariants: at most one send beyond what the stream takes is in the stream's own buffer; the
 * queue never exceeds `queueBytesMax`; a keyed frame that waits is replaced by a newer one of the
 * same key (heartbeats: only the latest matters) and goes before what waits with it.
 * Why coalesce: a message costs 60 µs of Noise and Yamux alone, 6–11 µs in company
 * (`reference/libp2p.md` §4.1).
 */
import { encodeFrame, encodeParts, SEND_BYTES_MAX } from './frames.ts'
import { isClogged, type MuxedStream } from './muxed-stream.ts'

/** Limits of a writer. */
export interface FrameWriterOptions {
  /** Most bytes that wait; what would exceed it is refused. */
  readonly queueBytesMax: number
}

/** A bounded, coalescing writer of frames. */
export class FrameWriter {
  readonly #stream: MuxedStream
  readonly #queueBytesMax: number
  /** Waiting frames in order, header included. */
  #queue: Uint8Array[] = []
  #queuedBytes = 0
  /** Waiting keyed frames; sent before `#queue`. */
  readonly #latest = new Map<string, Uint8Array>()
  #flushScheduled = false
  #closed = false
  #sends = 0

  constructor(stream: MuxedStream, options: FrameWriterOptions) {
    this.#stream = stream
    this.#queueBytesMax = options.queueBytesMax
    stream.addEventListener('drain', this.#onDrain)
    stream.addEventListener('idle', this.#onDrain)
    stream.addEventListener('close', this.#onClose)
  }

  /** Bytes that wait in this writer. */
  get queuedBytes(): number {
    return this.#queuedBytes
  }

  /** Sends so far; unchanged = nothing left this side. */
  get sends(): number {
    return this.#sends
  }

  /** Queues a frame. False when the queue is full or the stream is closed: the frame is dropped. */
  write(body: Uint8Array): boolean {
    if (this.#closed || this.#queuedBytes + body.length > this.#queueBytesMax) return false
    for (const frame of encodeParts(body)) {
      this.#queue.push(frame)
      this.#queuedBytes += frame.length
    }
    this.#schedule()
    return true
  }

  /**
   * Queues a frame that replaces a waiting one of the same `key`. False when the stream is closed.
   */
  writeLatest(key: string, body: Uint8Array): boolean {
    if (this.#closed) return false
    this.#latest.set(key, encodeFrame(body))
    this.#schedule()
    return true
  }

  #schedule(): void {
    if (this.#flushScheduled) return
    this.#flushScheduled = true
    queueMicrotask(() => {
      this.#flushScheduled = false
      this.#flush()
    })
  }

  readonly #onDrain = (): void => this.#schedule()

  readonly #onClose = (): void => {
    this.#closed = true
    this.#queue = []
    this.#queuedBytes = 0
    this.#latest.clear()
  }

  #flush(): void {
    while (!this.#closed && !isClogged(this.#stream)) {
      const batch = this.#nextBatch()
      if (batch === undefined) return
      this.#send(batch)
    }
  }

  #send(batch: Uint8Array): void {
    try {
      this.#stream.send(batch)
      this.#sends += 1
    } catch (error) {
      // The stream began to close under us; its `close` event tells the owner.
      this.#onClose()
      this.#stream.abort(error instanceof Error ? error : new Error(String(error)))
    }
  }

  /** Waiting frames of `SEND_BYTES_MAX` together at most, keyed ones first. */
  #nextBatch(): Uint8Array | undefined {
    const frames = [...this.#latest.values()]
    this.#latest.clear()
    let size = frames.reduce((sum, frame) => sum + frame.length, 0)
    let [head] = this.#queue
    while (head !== undefined && (frames.length === 0 || size + head.length <= SEND_BYTES_MAX)) {
      frames.push(head)
      size += head.length
      this.#queuedBytes -= head.length
      this.#queue.shift()
      head = this.#queue[0]
    }
    return frames.length <= 1 ? frames[0] : Buffer.concat(frames, size)
  }
}
