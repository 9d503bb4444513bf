/**
 * The client's side of the API: HTTP over a unix socket. One request object a call, JSON in and
 * out; errors of the daemon come as docker prints them.
 */
import type { IncomingMessage, RequestOptions } from 'node:http'
import type { Readable } from 'node:stream'
import { IDENTIFIER_BYTES, IDENTIFIER_DIGITS, base36 } from '../base/identifiers.ts'

/**
 * Not imported: an `import` evaluates every export of the module at once, and `node:http` has some
 * that load a whole WebSocket client, which takes longer than all else that a command does.
 */
const { request: httpRequest } = process.getBuiltinModule('node:http')

/** API version that this client speaks. */
export const API_VERSION = '1.50'

/** The daemon's refusal. */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  readonly status: number

  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

/** The daemon cannot be reached. */
export class ConnectionError extends Error {
  override readonly name = 'ConnectionError'
}

/** Query parameters; undefined ones are left out. */
export type Query = Readonly<Record<string, string | undefined>>

/** A call's optional parts. */
export interface CallOptions {
  readonly query?: Query
  /** Sent as JSON. */
  readonly body?: unknown
  readonly signal?: AbortSignal
}

/** Talks to one daemon. */
export class ApiClient {
  /** As the user named it: `unix:///run/skein/skein.sock`. */
  readonly host: string
  readonly #socketPath: string

  constructor(host: string) {
    this.host = host
    this.#socketPath = host.replace(/^unix:\/\//, '')
  }

  /** The answer's JSON, `undefined` if it has none. @throws ApiError, ConnectionError */
  async call(method: string, path: string, options: CallOptions = {}): Promise<unknown> {
    const body = options.body === undefined ? undefined : JSON.stringify(options.body)
    const message = await this.#send(method, path, options, (request) => request.end(body))
    const text = await readAll(message)
    return text === '' ? undefined : (JSON.parse(text) as unknown)
  }

  get(path: string, query: Query = {}, signal?: AbortSignal): Promise<unknown> {
    return this.call('GET', path, { query, ...(signal === undefined ? {} : { signal }) })
  }

  /**
   * Sends bytes.
   * @yields the answer's JSON objects as they come, one a line
   * @throws ApiError, ConnectionError
   */
  async *upload(path: string, source: Readable, options: CallOptions = {}): AsyncGenerator {
    const message = await this.#send('POST', path, options, (request) => source.pipe(request))
    let rest = ''
    for await (const chunk of message.setEncoding('utf8') as AsyncIterable<string>) {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) if (line !== '') yield JSON.parse(line) as unknown
    }
  }

  /**
   * Reads bytes for as long as the daemon sends some.
   * @yields them as they come
   * @throws ApiError, ConnectionError also when the daemon goes away in between
   */
  async *download(path: string, query: Query = {}): AsyncGenerator<Uint8Array> {
    const message = await this.#send('GET', path, { query }, (request) => request.end())
    try {
      yield* message as AsyncIterable<Uint8Array>
    } catch (error) {
      throw this.#unreachable(error as NodeJS.ErrnoException)
    }
  }

  async #send(
    method: string,
    path: string,
    options: CallOptions,
    finish: (request: ReturnType<typeof httpRequest>) => unknown,
  ): Promise<IncomingMessage> {
    const headers = await requestHeaders(method, options)
    const message = await new Promise<IncomingMessage>((resolve, reject) => {
      const request = httpRequest(
        this.#requestOptions(method, path, options, headers),
        (answer) => {
          // A daemon that refuses reads no further: what is still being sent must not keep us
          // alive.
          if (isRefusal(answer)) answer.once('close', () => request.destroy())
          resolve(answer)
        },
      )
      request.once('error', (error) => {
        reject(options.signal?.aborted === true ? error : this.#unreachable(error))
      })
      finish(request)
    })
    if (!isRefusal(message)) return message
    const status = message.statusCode ?? 0
    throw new ApiError(status, errorMessage(await readAll(message), status))
  }

  #requestOptions(
    method: string,
    path: string,
    options: CallOptions,
    headers: Readonly<Record<string, string>>,
  ): RequestOptions {
    return {
      socketPath: this.#socketPath,
      method,
      path: `/v${API_VERSION}${path}${queryText(options.query ?? {})}`,
      headers,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    }
  }

  #unreachable(error: NodeJS.ErrnoException): ConnectionError {
    const options = { cause: error }
    if (error.code === 'EACCES') {
      const text = `permission denied while trying to connect to the Skein daemon at ${this.host}`
      return new ConnectionError(text, options)
    }
    if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') {
      return new ConnectionError(
        `Cannot connect to the Skein daemon at ${this.host}. Is it running? ` +
          '(start it with `skein daemon`, or name its socket with --host)',
        options,
      )
    }
    return new ConnectionError(`error during connect to ${this.host}: ${error.message}`, options)
  }
}

function isRefusal(answer: IncomingMessage): boolean {
  return (answer.statusCode ?? 0) >= 400
}

/** `?a=1&b=2`, or nothing. */
function queryText(query: Query): string {
  const parameters = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined) parameters.set(name, value)
  }
  const text = parameters.toString()
  return text === '' ? '' : `?${text}`
}

/** A write names its intent, so that it takes effect once however often it is sent. */
async function requestHeaders(
  method: string,
  options: CallOptions,
): Promise<Record<string, string>> {
  return {
    Host: 'skein',
    ...(options.body === undefined ? {} : { 'Content-Type': 'application/json' }),
    ...(method === 'GET' ? {} : { 'Skein-Request-Id': await newRequestId() }),
  }
}

/** `node:crypto` takes longer to load than all else here: what only reads does without it. */
async function newRequestId(): Promise<string> {
  const { randomBytes } = await import('node:crypto')
  return base36(randomBytes(IDENTIFIER_BYTES), IDENTIFIER_DIGITS)
}

async function readAll(message: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of message.setEncoding('utf8') as AsyncIterable<string>) text += chunk
  return text
}

function errorMessage(text: string, status: number): string {
  try {
    const body: unknown = JSON.parse(text)
    if (typeof body === 'object' && body !== null && 'message' in body) return String(body.message)
  } catch {
    // Not JSON: whatever answered speaks for itself below.
  }
  return text.trim() === '' ? `status ${status} without a message` : text.trim()
}
