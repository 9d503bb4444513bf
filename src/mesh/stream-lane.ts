/**
 * The answering side of byte streams: finds the handler, and ties the stream's life to the
 * handler's promise. Resolved: our side ends, and what still comes in is dropped. Rejected: the far
 * reader gets the error after the data sent so far.
 */
import { errorText, SwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { DuplexStream } from './duplex-stream.ts'
import type { Duplex } from './ports.ts'

/** Protocol of byte streams between members. */
export const STREAM_PROTOCOL = '/skein/stream/1'

/** Handlers by method. */
export type StreamHandlers = ReadonlyMap<string, (header: unknown, stream: Duplex) => Promise<void>>

/** Serves one inbound stream. Rejects only on a failed assertion. */
export async function serveStream(
  stream: DuplexStream,
  handlers: StreamHandlers,
  log: Logger,
): Promise<void> {
  try {
    const { method, header } = await stream.opening()
    const handler = handlers.get(method)
    if (handler === undefined) {
      throw new SwarmError('UNIMPLEMENTED', `stream "${method}": has no handler on this node`)
    }
    stream.accept()
    await handler(header, stream)
    await stream.end()
    stream.discard()
  } catch (error) {
    log.debug({ peer: stream.nodeId, err: errorText(error) }, 'stream failed')
    await stream.fail(error)
  }
}
