/**
 * Opens one connection to one backend: a task of this node by TCP, a task of another node through
 * the mesh. Says whether a failure speaks against the backend.
 */
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Clock } from '../../base/clock.ts'
import { SwarmError } from '../../base/errors.ts'
import type { Backend, RemoteConnection, RemoteDialer } from '../ports.ts'
import { abortReason } from './abort-reason.ts'
import { KEEP_ALIVE_DELAY_MS } from './limits.ts'
import { streamOfConnection } from './remote-stream.ts'

/** What may end a dial early. */
export interface DialBounds {
  readonly clock: Clock
  readonly timeoutMs: number
  readonly signal: AbortSignal
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

/**
 * Connects to `backend`. @throws UNAVAILABLE (timeout), the signal's reason, or the socket's error
 */
export function dialBackend(
  backend: Backend,
  dialer: RemoteDialer,
  bounds: DialBounds,
): Promise<Duplex> {
  if (backend.local) return dialLocal(backend, bounds)
  return bounded(bounds, async (signal) =>
    streamOfConnection(await dialer.dial(backend, { signal })),
  )
}

/** A stream of datagrams to a task of another node. @throws as {@link dialBackend} */
export function dialDatagrams(
  backend: Backend,
  dialer: RemoteDialer,
  bounds: DialBounds,
): Promise<RemoteConnection> {
  return bounded(bounds, (signal) => dialer.dial(backend, { signal, protocol: 'udp' }))
}

/** A TCP connection, half-close allowed. @throws as {@link dialBackend} */
export function dialLocal(address: SocketAddress, bounds: DialBounds): Promise<Socket> {
  return bounded(bounds, (signal) => connectTcp(address, signal))
}

/** Whether a failed dial speaks against the backend. */
export function blamesBackend(error: unknown): boolean {
  return !(error instanceof Error && 'code' in error && OWN_SHORTAGE.has(error.code))
}

async function bounded<T>(
  bounds: DialBounds,
  dial: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const late = new AbortController()
  const timer = bounds.clock.after(bounds.timeoutMs, () =>
    late.abort(new SwarmError('UNAVAILABLE', `dial: no answer in ${bounds.timeoutMs} ms`)),
  )
  try {
    return await dial(AbortSignal.any([bounds.signal, late.signal]))
  } finally {
    timer.cancel()
  }
}

function connectTcp(address: SocketAddress, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(abortReason(signal))
      return
    }
    const socket = connect({
      host: address.address,
      port: address.port,
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_DELAY_MS,
    })
    const onAbort = (): void => {
      socket.destroy(abortReason(signal))
    }
    signal.addEventListener('abort', onAbort, { once: true })
    socket.once('connect', () => {
      signal.removeEventListener('abort', onAbort)
      resolve(socket)
    })
    // Stays: an error after `connect` is seen by the relay as `close`.
    socket.on('error', reject)
    socket.once('close', () => signal.removeEventListener('abort', onAbort))
  })
}
