/**
 * The API server: Docker's Engine API over HTTP/1.1 on a unix socket. This file owns the socket,
 * turns requests into handler calls and replies into bytes; what is answered stands in `handlers/`.
 *
 * Invariants: a socket path is taken over only when nobody answers on it; every reply has Docker's
 * headers; a client that goes away aborts its request; `close` ends open streams, lets running
 * requests finish for `CLOSE_GRACE_MS`, and leaves no handle and no socket file.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { AssertionError } from '../base/assert.ts'
import { SwarmError, isSwarmError } from '../base/errors.ts'
import { newIdentifier } from '../base/identifiers.ts'
import type { ApiComponents } from './ports.ts'
import { errorReply } from './reply.ts'
import type { Reply } from './reply.ts'
import type { ApiRequest } from './request.ts'
import { Router } from './router.ts'
import { allRoutes } from './routes.ts'
import { claimSocketPath, listenOnSocket } from './socket.ts'
import { API_VERSION_MAX, splitVersion } from './version.ts'
import { writeReply } from './write-reply.ts'

/**
 * Not imported: an `import` evaluates every export of the module, and `node:http` has some that
 * load a whole WebSocket client, 17 MB that nothing here uses.
 */
const { createServer } = process.getBuiltinModule('node:http')

/** How long `close` waits for running requests, in milliseconds; then their connections are cut. */
const CLOSE_GRACE_MS = 3000

/**
 * Header by which a client names its intent, so that its own retry of a write takes effect once.
 */
const REQUEST_ID_HEADER = 'skein-request-id'

/**
 * An upload may take as long as it takes; clients keep connections between their polls; filters
 * that name many objects make long paths (the limit is in bytes).
 */
const HTTP_OPTIONS = {
  requestTimeout: 0,
  keepAliveTimeout: 60_000,
  maxHeaderSize: 256 * 1024,
} as const

const REQUEST_ID = /^[0-9a-z]{25}$/

/** A running API server. */
export interface ApiServer {
  readonly socketPath: string
  /** Ends streams, waits briefly for running requests, frees the socket. Idempotent. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * Starts the API on `socketPath`.
 * @throws FAILED_PRECONDITION when another process answers on that socket or the path is no socket
 */
export async function createApiServer(
  components: ApiComponents,
  options: { readonly socketPath: string },
): Promise<ApiServer> {
  await claimSocketPath(options.socketPath)
  const server = new DockerApiServer(components, options.socketPath)
  await server.listen()
  return server
}

class DockerApiServer implements ApiServer {
  readonly socketPath: string
  readonly #components: ApiComponents
  readonly #router: Router
  readonly #server: Server
  readonly #closing = new AbortController()
  #closed: Promise<void> | undefined

  constructor(components: ApiComponents, socketPath: string) {
    this.#components = components
    this.socketPath = socketPath
    this.#router = new Router(allRoutes(components))
    this.#server = createServer(HTTP_OPTIONS, (request, response) => {
      void this.#serve(request, response)
    })
  }

  async listen(): Promise<void> {
    await listenOnSocket(this.#server, this.socketPath)
    this.#components.log.info({ socket: this.socketPath }, 'api listens')
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(): Promise<void> {
    const stopped = new Promise<void>((resolve) => {
      this.#server.close(() => resolve())
    })
    this.#closing.abort(new SwarmError('SHUTTING_DOWN', 'api: the daemon stops'))
    this.#server.closeIdleConnections()
    const timer = this.#components.clock.after(CLOSE_GRACE_MS, () => {
      this.#server.closeAllConnections()
    })
    await stopped
    timer.cancel()
  }

  async #serve(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController()
    response.once('close', () => {
      if (!response.writableFinished) gone.abort(new SwarmError('ABORTED', 'api: client is gone'))
    })
    const signal = AbortSignal.any([gone.signal, this.#closing.signal])
    this.#setHeaders(response)
    const reply = await this.#answer(message, signal)
    if (this.#closing.signal.aborted) response.setHeader('Connection', 'close')
    const { log } = this.#components
    await writeReply(reply, { message, response, gone: gone.signal, log })
  }

  async #answer(message: IncomingMessage, signal: AbortSignal): Promise<Reply> {
    try {
      return await this.#route(message, signal)
    } catch (error) {
      if (error instanceof AssertionError) throw error
      if (!isSwarmError(error) && !signal.aborted) {
        this.#components.log.error({ err: error, url: message.url }, 'api request failed')
      }
      return errorReply(error)
    }
  }

  async #route(message: IncomingMessage, signal: AbortSignal): Promise<Reply> {
    const [rawPath = '/', query = ''] = (message.url ?? '/').split('?', 2)
    const { path } = splitVersion(rawPath)
    const method = message.method ?? 'GET'
    const match = this.#router.match(method, path)
    if (match === undefined) throw new SwarmError('NOT_FOUND', 'page not found')
    const request: ApiRequest = {
      method,
      path,
      parameters: match.parameters,
      query: new URLSearchParams(query),
      body: message,
      signal,
      requestId: this.#requestId(message),
    }
    return await match.handler(request)
  }

  #requestId(message: IncomingMessage): string {
    const given = message.headers[REQUEST_ID_HEADER]
    if (typeof given === 'string' && REQUEST_ID.test(given)) return given
    return newIdentifier(this.#components.random)
  }

  #setHeaders(response: ServerResponse): void {
    const { engineVersion } = this.#components.describe()
    response.setHeader('Api-Version', API_VERSION_MAX)
    response.setHeader('Docker-Experimental', 'false')
    response.setHeader('Ostype', 'linux')
    response.setHeader('Server', `Skein/${engineVersion} (linux)`)
  }
}
