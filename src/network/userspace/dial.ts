/**
 * Opens one connection to one backend: a task of this node by TCP, a task of another node through
 * the mesh. Says whether a failure speaks against the backend.
 */
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Clock, Timer } from '../../base/clock.ts'
import { SwarmError } from '../../base/errors.ts'
import type { Backend, RemoteConnection, RemoteDialer } from '../ports.ts'
import { abortReason } from './abort-reason.ts'
import { DirectSocket } from './direct-socket.ts'
import { KEEP_ALIVE_DELAY_MS } from './limits.ts'
import { streamOfConnection } from './remote-stream.ts'

/** What may end a dial early. */
export interface DialBounds {
  readonly clock: Clock
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

const SOCKET_OPTIONS = {
  allowHalfOpen: true,
  noDelay: true,
  keepAlive: true,
  keepAliveInitialDelay: KEEP_ALIVE_DELAY_MS,
}

/** How a dial went: one of the two is called, once, and never before the dial is returned. */
export interface DialEvents<T> {
  onConnect(connection: T): void
  /** @param error UNAVAILABLE (timeout), what the dial was cancelled with, or the socket's error */
  onFailure(error: unknown): void
}

/** A dial under way. */
export interface Dial {
  /** Gives up; `onFailure` tells. Does nothing when the dial is over. */
  cancel(reason: Error): void
}

/** A TCP address. */
export interface SocketAddress {
  readonly address: string
  readonly port: number
}

/** Errors of this node's own lack of sockets; no backend is to blame. */
const OWN_SHORTAGE: ReadonlySet<unknown> = new Set([
  'EMFILE',
  'ENFILE',
  'ENOBUFS',
  'ENOMEM',
  'EADDRNOTAVAIL',
])

/** What a node has for all of its dials. */
export interface DialMeans {
  readonly dialer: RemoteDialer
  /** What sockets read into: {@link DirectSocket}. */
  readonly readBuffer: Uint8Array
}

/** Connects to `backend`; a {@link DirectSocket} must be given its sink in `onConnect`. */
export function dialBackend(
  backend: Backend,
  { dialer, readBuffer }: DialMeans,
  bounds: Omit<DialBounds, 'signal'>,
  events: DialEvents<Duplex>,
): Dial {
  if (backend.local) {
    return new LocalDial(new DirectSocket(readBuffer, SOCKET_OPTIONS), backend, bounds, events)
  }
  const cancelled = new AbortController()
  const dial = async (signal: AbortSignal): Promise<Duplex> =>
    streamOfConnection(await dialer.dial(backend, { signal }))
  void bounded({ ...bounds, signal: cancelled.signal }, dial).then(
    (stream) => events.onConnect(stream),
    (error: unknown) => events.onFailure(error),
  )
  return { cancel: (reason) => cancelled.abort(reason) }
}

/**
 * A stream of datagrams to a task of another node.
 *
 * @throws UNAVAILABLE (timeout), the signal's reason, or the socket's error
 */
export function dialDatagrams(
  backend: Backend,
  dialer: RemoteDialer,
  bounds: DialBounds,
): Promise<RemoteConnection> {
  return bounded(bounds, (signal) => dialer.dial(backend, { signal, protocol: 'udp' }))
}

/** A TCP connection, half-close allowed. @throws as {@link dialDatagrams} */
export function dialLocal(address: SocketAddress, bounds: DialBounds): Promise<Socket> {
  const { signal } = bounds
  return new Promise((resolve, reject) => {
    const onAbort = (): void => dial.cancel(abortReason(signal))
    const dial = new LocalDial(new Socket(SOCKET_OPTIONS), address, bounds, {
      onConnect(socket) {
        signal.removeEventListener('abort', onAbort)
        resolve(socket)
      },
      onFailure(error) {
        signal.removeEventListener('abort', onAbort)
        reject(error)
      },
    })
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
  })
}

/** Whether a failed dial speaks against the backend. */
export function blamesBackend(error: unknown): boolean {
  return !(error instanceof Error && 'code' in error && OWN_SHORTAGE.has(error.code))
}

/** A TCP connection being opened: without promises and signals, one is opened for each client. */
class LocalDial implements Dial {
  readonly #socket: Socket
  readonly #timer: Timer
  readonly #events: DialEvents<Socket>
  #isOver = false

  constructor(
    socket: Socket,
    { address, port }: SocketAddress,
    { clock, timeoutMs }: Omit<DialBounds, 'signal'>,
    events: DialEvents<Socket>,
  ) {
    this.#events = events
    this.#timer = clock.after(timeoutMs, () => this.cancel(lateAnswer(timeoutMs)))
    this.#socket = socket
    socket.connect({ host: address, port })
    socket.once('connect', () => {
      if (this.#end()) this.#events.onConnect(socket)
    })
    // Stays: an error after `connect` is seen by the relay as `close`.
    socket.on('error', (error) => {
      if (this.#end()) this.#events.onFailure(error)
    })
  }

  cancel(reason: Error): void {
    if (!this.#isOver) this.#socket.destroy(reason)
  }

  /** Whether the dial was under way. */
  #end(): boolean {
    if (this.#isOver) return false
    this.#isOver = true
    this.#timer.cancel()
    return true
  }
}

function lateAnswer(timeoutMs: number): SwarmError {
  return new SwarmError('UNAVAILABLE', `dial: no answer in ${timeoutMs} ms`)
}

async function bounded<T>(
  bounds: DialBounds,
  dial: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const late = new AbortController()
  const { clock, timeoutMs } = bounds
  const timer = clock.after(timeoutMs, () => late.abort(lateAnswer(timeoutMs)))
  try {
    return await dial(AbortSignal.any([bounds.signal, late.signal]))
  } finally {
    timer.cancel()
  }
}
