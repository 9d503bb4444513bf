/**
 * A TCP socket that hands on what it reads at once, past the buffers and events of a stream: those
 * cost the proxy more than the bytes do. End, errors, writing and closing are a stream's.
 *
 * Invariant: the read buffer is shared by all sockets of a driver and valid only until the next
 * read, so what is handed on is a copy. A copy of few bytes comes from Node's pool; without, each
 * read would allocate 64 KiB, cut them down, and leave them to the garbage collector.
 * Source: `onread` of `net.Socket`.
 */
import { Socket } from 'node:net'
import type { SocketConstructorOpts } from 'node:net'
import { assert } from '../../base/assert.ts'

/** Takes bytes; false to stop reading until `resume`. */
export type Sink = (bytes: Uint8Array) => boolean

/** Most bytes of one read. */
export const READ_BYTES_MAX = 65_536

/** To be connected, and given a sink when it is. */
export class DirectSocket extends Socket {
  #sink: Sink | undefined

  constructor(readBuffer: Uint8Array, options: SocketConstructorOpts) {
    const callback = (sizeBytes: number): boolean => this.#onRead(readBuffer, sizeBytes)
    super({ ...options, onread: { buffer: readBuffer, callback } })
  }

  /** Where bytes go from now on; before that nothing may be read. */
  readInto(sink: Sink): void {
    this.#sink = sink
  }

  #onRead(readBuffer: Uint8Array, sizeBytes: number): boolean {
    assert(this.#sink !== undefined, 'a direct socket was read before it had a sink')
    const copy = Buffer.allocUnsafe(sizeBytes)
    copy.set(sizeBytes === readBuffer.length ? readBuffer : readBuffer.subarray(0, sizeBytes))
    return this.#sink(copy)
  }
}
