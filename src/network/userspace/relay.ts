/**
 * Carries bytes both ways between a client and a backend until both are closed.
 *
 * Invariants: end of stream is passed on for each direction alone (half-close); a side that breaks
 * resets the other; memory is bounded by the streams' own high-water marks, because a side is read
 * only while the other takes what it says. When the backend is dropped, its side is destroyed at
 * once; the client is reset too, unless the backend had already said everything: then the client
 * gets `flushMs` to read the rest of the answer.
 *
 * This is the hot path of the proxy: no timer, promise or closure a chunk, and no `pipe`, whose
 * dozen listeners cost a short connection more than its bytes.
 */
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Clock, Timer } from '../../base/clock.ts'
import { abortReason } from './abort-reason.ts'
import { DirectSocket } from './direct-socket.ts'

/** Options of {@link Relay}. */
export interface RelayOptions {
  readonly clock: Clock
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
 * Relays until both sides are closed; the backend is dropped when `signal` aborts. Never rejects:
 * how a connection ends is its peers' business.
 */
export function relay(
  client: Duplex,
  backend: Duplex,
  options: RelayOptions & { readonly signal: AbortSignal },
): Promise<void> {
  const { signal } = options
  return new Promise((resolve) => {
    const onAbort = (): void => carrier.drop(abortReason(signal))
    const carrier = new Relay(client, backend, options, () => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    })
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
  })
}

/** Relays from its creation on; says when both sides are closed, never from the constructor. */
export class Relay {
  readonly #client: Duplex
  readonly #backend: Duplex
  readonly #options: RelayOptions
  readonly #onDone: () => void
  #open = 2
  /** The side that was closed whole, having said and been told everything. */
  #completed: Duplex | undefined
  #flushTimer: Timer | undefined

  constructor(client: Duplex, backend: Duplex, options: RelayOptions, onDone: () => void) {
    this.#client = client
    this.#backend = backend
    this.#options = options
    this.#onDone = onDone
    this.#carry(client, backend)
    this.#carry(backend, client)
  }

  /** Drops the backend. */
  drop(reason: Error): void {
    const client = this.#client
    if (this.#open === 0 || this.#flushTimer !== undefined) return
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

  /** Carries what `from` says to `to`, and watches `from`. */
  #carry(from: Duplex, to: Duplex): void {
    // An error is always followed by `close`, which does what is to do.
    from.on('error', ignore)
    if (from.closed) process.nextTick(() => this.#onClosed(from, to))
    else from.once('close', () => this.#onClosed(from, to))
    const resume = (): void => {
      from.resume()
    }
    /** Whether `from` may say more now. */
    const take = (chunk: Uint8Array): boolean => {
      if (to.destroyed) return false
      if (to.write(chunk)) return true
      to.once('drain', resume)
      return false
    }
    if (from instanceof DirectSocket) from.readInto(take)
    else {
      from.on('data', (chunk: Uint8Array) => {
        if (!take(chunk)) from.pause()
      })
    }
    from.once('end', () => this.#onEnd(to))
    // Accepted sockets come paused.
    from.resume()
  }

  /** Passes an end on to `to`. A socket that has ended, too, is closed: a call less than both. */
  #onEnd(to: Duplex): void {
    const isLast = to instanceof Socket && to.readableEnded && to.writableLength === 0
    if (!isLast) {
      to.end()
      return
    }
    this.#completed = to
    to.destroy()
  }

  #onClosed(side: Duplex, other: Duplex): void {
    this.#open -= 1
    const isTold = side.writableFinished || side === this.#completed
    const isComplete = side.readableEnded && (isTold || this.#flushTimer !== undefined)
    if (!isComplete) resetStream(other, new Error('the other side broke off'))
    if (this.#open > 0) return
    this.#flushTimer?.cancel()
    this.#onDone()
  }
}

function ignore(): void {}
