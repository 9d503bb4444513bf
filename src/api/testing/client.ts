/** For tests: one HTTP request over a unix socket. */
import { request as httpRequest } from 'node:http'
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'

/** A request; a text body goes as it is, anything else as JSON. */
export interface TestRequest {
  readonly method?: string
  readonly path: string
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
  readonly signal?: AbortSignal
}

/** A whole answer. */
export interface TestAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  /** The body as JSON. */
  json(): unknown
}

/** Sends and reads everything. */
export async function send(socketPath: string, request: TestRequest): Promise<TestAnswer> {
  const message = await open(socketPath, request)
  let text = ''
  for await (const chunk of message.setEncoding('utf8') as AsyncIterable<string>) text += chunk
  return {
    status: message.statusCode ?? 0,
    headers: message.headers,
    text,
    json: () => JSON.parse(text) as unknown,
  }
}

/** Sends and returns the answer as a stream. */
export function open(socketPath: string, request: TestRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const { body, signal } = request
    const outgoing = httpRequest(
      {
        socketPath,
        method: request.method ?? 'GET',
        path: request.path,
        headers: { ...request.headers },
        agent: false,
        ...(signal === undefined ? {} : { signal }),
      },
      resolve,
    )
    outgoing.once('error', reject)
    outgoing.end(body === undefined || typeof body === 'string' ? body : JSON.stringify(body))
  })
}
