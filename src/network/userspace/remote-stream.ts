/**
 * A mesh connection as a Node stream, so that one relay serves local and remote backends.
 * Half-close and back-pressure pass through: `read` asks for one chunk at a time, `write` waits for
 * the mesh.
 */
import { Duplex } from 'node:stream'
import type { RemoteConnection } from '../ports.ts'

/** Wraps `connection`; destroying the stream aborts a connection that has not ended both ways. */
export function streamOfConnection(connection: RemoteConnection): Duplex {
  const chunks = connection.source[Symbol.asyncIterator]()
  const ended = { here: false, there: false }
  const stream = new Duplex({
    allowHalfOpen: true,
    read: () => void pull(),
    write: (chunk: Uint8Array, _encoding, done) => void report(connection.write(chunk), done),
    final(done) {
      ended.here = true
      void report(connection.end(), done)
    },
    destroy(error, done) {
      if (!ended.here || !ended.there) connection.abort(error ?? new Error('connection: closed'))
      done(error)
    },
  })
  async function pull(): Promise<void> {
    try {
      const next = await chunks.next()
      ended.there = next.done === true
      stream.push(next.done === true ? null : next.value)
    } catch (error) {
      stream.destroy(asError(error))
    }
  }
  return stream
}

/** Tells the outcome of `work` in the way of Node's streams. */
async function report(work: Promise<void>, done: (error?: Error) => void): Promise<void> {
  try {
    await work
  } catch (error) {
    done(asError(error))
    return
  }
  done()
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}
