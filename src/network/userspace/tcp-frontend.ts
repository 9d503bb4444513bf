/**
 * One published TCP port. Each accepted client is paused, gets a backend, and is relayed until both
 * sides are closed. A client that no backend can serve is reset, which is what a closed port looks
 * like.
 *
 * A dial or connection is a user of its backend (`BackendSet`): dropping the backend aborts it, so
 * no bookkeeping can forget one.
 */
import { createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { errorText } from '../../base/errors.ts'
import type { VirtualServer } from '../ports.ts'
import { BackendSet } from './backend-set.ts'
import type { Slot } from './backend-set.ts'
import { blamesBackend, dialBackend } from './dial.ts'
import { bindFault } from './frontend.ts'
import type { Frontend, FrontendContext } from './frontend.ts'
import { KEEP_ALIVE_DELAY_MS } from './limits.ts'
import { proxyHeader } from './proxy-protocol.ts'
import { relay, resetSocket } from './relay.ts'

/** Connections the kernel may hold before we accept them. */
const BACKLOG = 1_024

/** A TCP virtual server. */
export class TcpFrontend implements Frontend {
  readonly #context: FrontendContext
  readonly #backends: BackendSet
  readonly #clients = new Set<Socket>()
  readonly #serving = new Set<Promise<void>>()
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
    this.#backends.update({ backends: [] })
    for (const client of this.#clients) resetSocket(client)
    await Promise.all([stopped, this.#binding, ...this.#serving])
  }

  #bind(): Promise<string | undefined> {
    return new Promise((resolve) => {
      const listener = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) =>
        this.#onClient(client),
      )
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
    // What breaks a client closes it; `close` is where it is noticed.
    client.on('error', () => {})
    if (this.#closed || !this.#context.budget.take()) {
      resetSocket(client)
      return
    }
    client.setNoDelay(true)
    client.setKeepAlive(true, KEEP_ALIVE_DELAY_MS)
    this.#clients.add(client)
    client.once('close', () => {
      this.#clients.delete(client)
      this.#context.budget.release()
    })
    const work = this.#serve(client).finally(() => this.#serving.delete(work))
    this.#serving.add(work)
  }

  async #serve(client: Socket): Promise<void> {
    const tried = new Set<string>()
    // A client that is gone already has no address.
    const from = client.remoteAddress ?? this.#server.address
    while (tried.size < this.#context.limits.dialTriesMax && !client.destroyed) {
      const slot = this.#backends.pick(tried, from)
      if (slot === undefined) break
      tried.add(slot.key)
      const user = new AbortController()
      slot.users.add(user)
      try {
        if (await this.#serveFrom(slot, client, user.signal)) return
      } finally {
        slot.users.delete(user)
      }
    }
    resetSocket(client)
  }

  /**
   * Relays between `client` and the slot's backend; false when the backend could not be reached.
   */
  async #serveFrom(slot: Slot, client: Socket, signal: AbortSignal): Promise<boolean> {
    const { clock, limits } = this.#context
    const backend = await this.#dial(slot, signal)
    if (backend === undefined) return false
    if (signal.aborted) {
      backend.destroy()
      return false
    }
    if (this.#server.proxyProtocol !== undefined) backend.write(proxyHeader(client))
    await relay(client, backend, { clock, signal, flushMs: limits.flushMs })
    return true
  }

  async #dial(slot: Slot, signal: AbortSignal): Promise<Duplex | undefined> {
    const { clock, dialer, limits, log } = this.#context
    try {
      const bounds = { clock, signal, timeoutMs: limits.dialTimeoutMs }
      return await dialBackend(slot.backend, dialer, bounds)
    } catch (error) {
      if (!signal.aborted && blamesBackend(error)) this.#backends.bench(slot)
      log.debug({ task: slot.backend.taskId, reason: errorText(error) }, 'backend not reached')
      return undefined
    }
  }
}
