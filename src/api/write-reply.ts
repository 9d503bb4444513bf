/**
 * Puts a reply on the wire. A stream's headers are sent before its first chunk (clients wait for
 * them), chunks wait for the client to read, and a client that is gone ends the stream's source.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { errorText } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Reply } from './reply.ts'

/** Where a reply goes. */
export interface ReplyTarget {
  readonly message: IncomingMessage
  readonly response: ServerResponse
  /** Aborts when the client is gone. A closing server ends streams at their source instead. */
  readonly gone: AbortSignal
  readonly log: Logger
}

/** Writes the whole reply; resolves when it is handed over or the client is gone. */
export async function writeReply(reply: Reply, target: ReplyTarget): Promise<void> {
  const { response } = target
  if (response.destroyed) return
  switch (reply.type) {
    case 'json':
      writeBody(target, reply.status, `${JSON.stringify(reply.body)}\n`, 'application/json')
      return
    case 'empty':
      response.writeHead(reply.status, reply.status === 204 ? {} : { 'Content-Length': 0 })
      endReply(target)
      return
    case 'text':
      for (const [name, value] of Object.entries(reply.headers ?? {})) {
        response.setHeader(name, value)
      }
      writeBody(target, reply.status, reply.text, 'text/plain; charset=utf-8')
      return
    case 'stream':
      await writeStream(reply, target)
      return
    default:
      reply satisfies never
  }
}

function writeBody(target: ReplyTarget, status: number, text: string, contentType: string): void {
  target.response.writeHead(status, {
    'Content-Type': contentType,
    'Content-Length': Buffer.byteLength(text),
  })
  endReply(target, text)
}

/**
 * Ends the reply; a request body that nobody read is discarded, so that the connection stays
 * usable.
 */
function endReply({ message, response }: ReplyTarget, text?: string): void {
  if (!message.complete) message.resume()
  if (text === undefined) response.end()
  else response.end(text)
}

async function writeStream(
  reply: Reply & { readonly type: 'stream' },
  { response, gone, log }: ReplyTarget,
): Promise<void> {
  response.writeHead(reply.status, { 'Content-Type': reply.contentType })
  response.flushHeaders()
  try {
    await pipeline(Readable.from(reply.chunks), response, { signal: gone })
  } catch (error) {
    // The status is sent: all that is left is to cut the stream, so that the client does not take a
    // broken answer for a whole one.
    if (!gone.aborted) log.warn({ err: errorText(error) }, 'api stream broke')
    response.destroy()
  }
}
