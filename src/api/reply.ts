/**
 * What a handler answers, as a value; `server.ts` alone writes to the socket. The docker CLI
 * compares the content type of an error with exactly `application/json`, so nothing is added to it.
 */
import { errorAnswer } from './status.ts'

/** An answer to one request. */
export type Reply =
  | { readonly type: 'json'; readonly status: number; readonly body: unknown }
  | { readonly type: 'empty'; readonly status: number }
  | {
      readonly type: 'text'
      readonly status: number
      readonly text: string
      readonly headers?: Readonly<Record<string, string>>
    }
  | {
      /**
       * Headers go at once, chunks as they come; ends when the client goes or the iterable ends.
       */
      readonly type: 'stream'
      readonly status: number
      readonly contentType: string
      readonly chunks: AsyncIterable<string | Uint8Array>
    }

/** 200 (or `status`) with a JSON body. */
export function json(body: unknown, status = 200): Reply {
  return { type: 'json', status, body }
}

/** A status without a body. */
export function empty(status = 200): Reply {
  return { type: 'empty', status }
}

/** Docker's error body for any thrown value. */
export function errorReply(error: unknown): Reply {
  const { status, message } = errorAnswer(error)
  return refusal(status, message)
}

/** Docker's error body with a status that the code table does not give. */
export function refusal(status: number, message: string): Reply {
  return json({ message }, status)
}
