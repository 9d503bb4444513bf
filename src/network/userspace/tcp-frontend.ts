/**
 * One published TCP port: accepts clients, keeps to the limit of connections, and owns them until
 * they are closed (`tcp-connection.ts`).
 */
import { createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import type { VirtualServer } from '../ports.ts'
import { BackendSet } from './backend-set.ts'
import { bindFault } from './frontend.ts'
import type { Frontend, FrontendContext } from './frontend.ts'
import { KEEP_ALIVE_DELAY_MS } from './limits.ts'
import { resetSocket } from './relay.ts'
import { TcpConnection } from './tcp-connection.ts'

/** Connections the kernel may hold before we accept them. */
const BACKLOG = 1_024

const CLIENT_OPTIONS = {
  allowHalfOpen: true,
  pauseOnConnect: true,
  noDelay: true,
  keepAlive: true,
  keepAliveInitialDelay: KEEP_ALIVE_DELAY_MS,
}

/** A TCP virtual server. */
export class TcpFrontend implements Frontend {
  readonly #context: FrontendContext
  readonly #backends: BackendSet
  readonly #connections = new Set<TcpConnection>()
  /** Set by `close`: the last connection is closed. */
  #onIdle: (() => void) | undefined
  #server: VirtualServer
  #listener: Server | undefined
  #binding: Promise<string | undefined> | undefined
  #closed = false

  constructor(server: VirtualServer, context: FrontendContext) {
    this.#server = server
    this.#context = context
    const { scheduling, limits } = context
    this.#backends = new BackendSet(context, { scheduling, benchMs: limits.benchMs })
    this.#backends.update(server)
  }

  update(server: VirtualServer): void {
    this.#server = server
    this.#backends.update(server)
  }

  listen(): Promise<string | undefined> {
    if (this.#listener !== undefined || this.#closed) return Promise.resolve(undefined)
    this.#binding ??= this.#bind().finally(() => {
      this.#binding = undefined
    })
    return this.#binding
  }

  async close(): Promise<void> {
    this.#closed = true
    const listener = this.#listener
    const stopped = new Promise<void>((resolve) => {
      if (listener === undefined) resolve()
      else listener.close(() => resolve())
    })
    const idle = new Promise<void>((resolve) => {
      if (this.#connections.size === 0) resolve()
      else this.#onIdle = resolve
    })
    this.#backends.update({ backends: [] })
    for (const connection of this.#connections) connection.reset()
    await Promise.all([stopped, this.#binding, idle])
  }

  #bind(): Promise<string | undefined> {
    return new Promise((resolve) => {
      const listener = createServer(CLIENT_OPTIONS, (client) => this.#onClient(client))
      listener.once('error', (error) => resolve(bindFault(this.#server, error)))
      const { address, port } = this.#server
      listener.listen({ host: address, port, backlog: BACKLOG, ipv6Only: true }, () => {
        listener.on('error', (err) => this.#context.log.warn({ err, port }, 'accept failed'))
        if (this.#closed) listener.close()
        else this.#listener = listener
        resolve(undefined)
      })
    })
  }

  #onClient(client: Socket): void {
    const { budget } = this.#context
    if (this.#closed || !budget.take()) {
      // What breaks a client closes it.
      client.on('error', () => {})
      resetSocket(client)
      return
    }
    const connection = new TcpConnection(client, this.#backends, this.#context, {
      proxyProtocol: this.#server.proxyProtocol,
      onClosed: () => {
        budget.release()
        this.#connections.delete(connection)
        if (this.#connections.size === 0) this.#onIdle?.()
      },
    })
    this.#connections.add(connection)
    connection.serve()
  }
}
