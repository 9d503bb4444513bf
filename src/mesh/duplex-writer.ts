/**
 * The sending half of a byte stream. A piece leaves when the far reader has room for it (credit),
 * when the connection's bulk window has room, and when libp2p's stream takes it: in this order, so
 * that a stream with a slow reader holds nothing that others could use.
 */
import { assert } from '../base/assert.ts'
import type { Clock } from '../base/clock.ts'
import { SwarmError } from '../base/errors.ts'
import type { BulkWindow } from './bulk-window.ts'
import {
  type Acknowledgement,
  DATA_BYTES_MAX,
  encodeDuplexFrame,
  FRAME_KIND,
} from './duplex-frame.ts'
import { type MuxedStream, writable } from './muxed-stream.ts'

/** Bytes that may be sent before the far side has consumed them; it holds no more for a stream. */
export const STREAM_CREDIT_BYTES = 256 * 1024
/** What a stream shares with the others on its connection. */
export interface DuplexComponents {
  readonly clock: Clock
  readonly window: BulkWindow
}

/** Sends frames of one stream. */
export class DuplexWriter {
  readonly #stream: MuxedStream
  readonly #clock: Clock
  readonly #window: BulkWindow
  #sentBytes = 0
  #arrivedBytes = 0
  #consumedBytes = 0
  /** Pieces under way, oldest first: where each ends in the stream, and when it left. */
  readonly #pieces: { readonly endBytes: number; readonly sentMs: number }[] = []
  #ended = false
  /** Set when the stream is gone: writing is over. */
  #lost: SwarmError | undefined
  /** Writes that wait for credit. */
  readonly #waiting: (() => void)[] = []

  constructor(stream: MuxedStream, components: DuplexComponents) {
    this.#stream = stream
    this.#clock = components.clock
    this.#window = components.window
  }

  /** The end or a failure was sent. */
  get ended(): boolean {
    return this.#ended
  }

  get lost(): SwarmError | undefined {
    return this.#lost
  }

  /** @throws UNAVAILABLE */
  async write(chunk: Uint8Array): Promise<void> {
    assert(!this.#ended, 'write after end of a mesh stream')
    let offset = 0
    while (offset < chunk.length) {
      const piece = chunk.subarray(offset, offset + DATA_BYTES_MAX)
      await this.#sendPiece(piece)
      offset += piece.length
    }
    if (this.#lost !== undefined) throw this.#lost
  }

  /** Sends the last frame of this direction. @throws UNAVAILABLE */
  async finish(kind: number, body: Uint8Array): Promise<void> {
    this.send(encodeDuplexFrame(kind, body))
    this.#ended = true
    await writable(this.#stream)
  }

  /** Sends a frame that needs no credit. @throws UNAVAILABLE */
  send(frame: Uint8Array): void {
    if (this.#lost !== undefined) throw this.#lost
    try {
      this.#stream.send(frame)
    } catch (error) {
      throw new SwarmError('UNAVAILABLE', 'stream: closed', { cause: error })
    }
  }

  /** @throws INVALID_ARGUMENT when the far side acknowledges what was never sent */
  onAcknowledgement({ arrivedBytes, consumedBytes }: Acknowledgement): void {
    this.#arrivedBytes += arrivedBytes
    this.#consumedBytes += consumedBytes
    if (this.#arrivedBytes > this.#sentBytes || this.#consumedBytes > this.#arrivedBytes) {
      throw new SwarmError('INVALID_ARGUMENT', 'stream: acknowledges what was not sent')
    }
    if (arrivedBytes > 0) this.#window.arrived(arrivedBytes, this.#delayOfArrived())
    this.#wakeWriter()
  }

  /** The stream is gone: every write fails from now on. */
  lose(error: SwarmError): void {
    if (this.#lost !== undefined) return
    this.#lost = error
    this.#window.release(this.#sentBytes - this.#arrivedBytes)
    this.#wakeWriter()
  }

  async #sendPiece(piece: Uint8Array): Promise<void> {
    while (this.#lost === undefined && this.#creditBytes() < piece.length) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
    await this.#window.acquire(piece.length)
    if (this.#lost !== undefined) {
      this.#window.release(piece.length)
      throw this.#lost
    }
    this.#sentBytes += piece.length
    this.#pieces.push({ endBytes: this.#sentBytes, sentMs: this.#clock.monotonicMs() })
    this.send(encodeDuplexFrame(FRAME_KIND.data, piece))
    await writable(this.#stream)
  }

  #creditBytes(): number {
    return STREAM_CREDIT_BYTES - (this.#sentBytes - this.#consumedBytes)
  }

  #delayOfArrived(): number {
    const now = this.#clock.monotonicMs()
    let delayMs = 0
    let [oldest] = this.#pieces
    while (oldest !== undefined && oldest.endBytes <= this.#arrivedBytes) {
      delayMs = now - oldest.sentMs
      this.#pieces.shift()
      oldest = this.#pieces[0]
    }
    return delayMs
  }

  #wakeWriter(): void {
    for (const wake of this.#waiting.splice(0)) wake()
  }
}
