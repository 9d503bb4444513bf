/**
 * Carries bytes both ways between a client and a backend until both are closed.
 *
 * Invariants: end of stream is passed on for each direction alone (half-close); a side that breaks
 * resets the other; memory is bounded by the streams' own high-water marks, because each direction
 * reads only what the other side has taken (`pipe`). When the backend is dropped, its side is
 * destroyed at once; the client is reset too, unless the backend had already said everything: then
 * the client gets `flushMs` to read the rest of the answer.
 */
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Clock, Timer } from '../../base/clock.ts'
import { abortReason } from './abort-reason.ts'

/** Options of {@link relay}. */
export interface RelayOptions {
  readonly clock: Clock
  /** Aborted when the backend is dropped. */
  readonly signal: AbortSignal
  readonly flushMs: number
}

/** Drops `stream` so that a TCP peer sees a reset, not a clean end. */
export function resetStream(stream: Duplex, reason: Error): void {
  if (stream.destroyed) return
  if (stream instanceof Socket) resetSocket(stream)
  else stream.destroy(reason)
}

/**
 * Drops `socket` with a reset. While its end is on the way to the kernel (all written, not
 * finished) libuv refuses one (`uv_tcp_close_reset`: EINVAL), and Node takes the handle for closing
 * all the same (`TCPWrap::Reset`): it never emits `close`, keeps the descriptor, and a process that
 * ends by itself waits for that handle for ever, spinning (`Environment::CleanupHandles`). Such a
 * socket, which has said everything, is closed instead.
 */
export function resetSocket(socket: Socket): void {
  const isEnding = socket.writableEnded && !socket.writableFinished && socket.writableLength === 0
  if (isEnding) socket.destroy()
  else socket.resetAndDestroy()
}

/**
 * Relays until both sides are closed. Never rejects: how a connection ends is its peers' business.
 */
export function relay(client: Duplex, backend: Duplex, options: RelayOptions): Promise<void> {
  return new Promise((resolve) => new Relay(client, backend, options).run(resolve))
}

class Relay {
  readonly #client: Duplex
  readonly #backend: Duplex
  readonly #options: RelayOptions
  #open = 2
  #flushTimer: Timer | undefined

  constructor(client: Duplex, backend: Duplex, options: RelayOptions) {
    this.#client = client
    this.#backend = backend
    this.#options = options
  }

  run(onDone: () => void): void {
    const { signal } = this.#options
    const onAbort = (): void => this.#onDropped()
    const onClose = (side: Duplex, other: Duplex): void => {
      this.#onClosed(side, other)
      if (this.#open > 0) return
      signal.removeEventListener('abort', onAbort)
      this.#flushTimer?.cancel()
      onDone()
    }
    this.#watch(this.#client, () => onClose(this.#client, this.#backend))
    this.#watch(this.#backend, () => onClose(this.#backend, this.#client))
    signal.addEventListener('abort', onAbort, { once: true })
    this.#client.pipe(this.#backend)
    this.#backend.pipe(this.#client)
    if (signal.aborted) this.#onDropped()
  }

  #watch(stream: Duplex, onClose: () => void): void {
    // An error is always followed by `close`, which does what is to do.
    stream.on('error', () => {})
    if (stream.closed) onClose()
    else stream.once('close', onClose)
  }

  #onClosed(side: Duplex, other: Duplex): void {
    this.#open -= 1
    const complete = side.readableEnded && (side.writableFinished || this.#flushTimer !== undefined)
    if (!complete) resetStream(other, new Error('the other side broke off'))
  }

  #onDropped(): void {
    const reason = abortReason(this.#options.signal)
    const client = this.#client
    if (!this.#backend.readableEnded) {
      resetStream(client, reason)
      this.#backend.destroy()
      return
    }
    this.#flushTimer = this.#options.clock.after(this.#options.flushMs, () =>
      resetStream(client, reason),
    )
    this.#backend.destroy()
    if (client.writableFinished) client.destroy()
    else client.once('finish', () => client.destroy())
  }
}
