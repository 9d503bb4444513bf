/** Free loopback ports for processes that share the host's network. */
import { createServer } from 'node:net'
import { SwarmError } from '../../base/errors.ts'

/**
 * A TCP port that is free on loopback now. Somebody else may take it before the task does; the task
 * then fails to listen and is restarted with another.
 */
export function freeLoopbackPort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', (cause) => {
      reject(new SwarmError('RESOURCE_EXHAUSTED', 'loopback: no free port', { cause }))
    })
    server.listen({ port: 0, host: '127.0.0.1', exclusive: true }, () => {
      const address = server.address()
      const port = typeof address === 'object' && address !== null ? address.port : 0
      server.close(() => resolve(port))
    })
  })
}
