/** Makes connections; addresses are `host:port`. */
import { connect, type Socket } from 'node:net'
import type { Clock } from '../../base/clock.ts'
import { SwarmError } from '../../base/errors.ts'

/** Time in which a peer must accept, milliseconds. */
export const CONNECT_TIMEOUT_MS = 2_000

/** `host:port`, the host of IPv6 in brackets. @throws INVALID_ARGUMENT */
export function parseAddress(address: string): { readonly host: string; readonly port: number } {
  const found = /^(?:\[(?<v6>[^\]]+)\]|(?<name>[^:]+)):(?<port>\d{1,5})$/.exec(address)?.groups
  const host = found?.['v6'] ?? found?.['name']
  if (host === undefined) {
    throw new SwarmError('INVALID_ARGUMENT', `address ${address}: is not host:port`)
  }
  return { host, port: Number(found?.['port']) }
}

/** An open socket. @throws UNAVAILABLE, ABORTED */
export function dial(clock: Clock, address: string, signal: AbortSignal): Promise<Socket> {
  const { host, port } = parseAddress(address)
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, noDelay: true })
    const settle = (): void => {
      timer.cancel()
      signal.removeEventListener('abort', onAbort)
      socket.off('error', onError)
    }
    const fail = (error: SwarmError): void => {
      settle()
      socket.on('error', () => {}) // It is destroyed; its owner has been told already.
      socket.destroy()
      reject(error)
    }
    const onError = (cause: Error): void =>
      fail(new SwarmError('UNAVAILABLE', `server at ${address}: cannot be reached`, { cause }))
    const onAbort = (): void => fail(new SwarmError('ABORTED', 'raft connection: withdrawn'))
    const timer = clock.after(CONNECT_TIMEOUT_MS, () => {
      fail(new SwarmError('UNAVAILABLE', `server at ${address}: does not answer`))
    })
    socket.once('error', onError)
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    socket.once('connect', () => {
      settle()
      resolve(socket)
    })
  })
}
