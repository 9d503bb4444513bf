/**
 * One client of a published TCP port. It is accepted paused, gets a backend, and is relayed until
 * both sides are closed. A client that no backend can serve is reset, which is what a closed port
 * looks like.
 *
 * A dial or connection is a user of its backend (`BackendSet`): dropping the backend aborts it, so
 * no bookkeeping can forget one. No promises and signals: a short connection costs what is made for
 * it.
 *
 *    dialling --> relaying --> closed
 *        |                       ^
 *        +---> refused ----------+
 */
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { errorText } from '../../base/errors.ts'
import type { VirtualServer } from '../ports.ts'
import type { BackendSet, Slot, SlotUser } from './backend-set.ts'
import { blamesBackend, dialBackend } from './dial.ts'
import type { Dial } from './dial.ts'
import type { FrontendContext } from './frontend.ts'
import { proxyHeader } from './proxy-protocol.ts'
import { Relay, resetSocket } from './relay.ts'

/** How a client is served. */
export interface TcpConnectionOptions {
  /** As in {@link VirtualServer}. */
  readonly proxyProtocol: VirtualServer['proxyProtocol']
  /** Both sides are closed. */
  readonly onClosed: () => void
}

const NONE: ReadonlySet<string> = new Set()

/** A client and, when one could be reached, its backend. */
export class TcpConnection implements SlotUser {
  readonly #client: Socket
  readonly #backends: BackendSet
  readonly #context: FrontendContext
  readonly #options: TcpConnectionOptions
  /** Keys of backends that could not be reached. */
  #tried = NONE
  #dial: Dial | undefined
  #relay: Relay | undefined
  /** No backend will serve this client. */
  #isRefused = false
  #isClientClosed = false
  /** Why the slot was dropped while it was dialled. */
  #dropped: Error | undefined

  constructor(
    client: Socket,
    backends: BackendSet,
    context: FrontendContext,
    options: TcpConnectionOptions,
  ) {
    this.#client = client
    this.#backends = backends
    this.#context = context
    this.#options = options
    // What breaks a client closes it; `close` is where it is noticed.
    client.on('error', ignore)
    client.once('close', () => {
      this.#isClientClosed = true
      if (this.#isRefused) options.onClosed()
    })
  }

  /** Looks for a backend; once. */
  serve(): void {
    const { limits } = this.#context
    const isHopeless = this.#tried.size >= limits.dialTriesMax || this.#client.destroyed
    const slot = isHopeless ? undefined : this.#backends.pick(this.#tried, this.#client)
    if (slot === undefined) this.#refuse()
    else this.#reach(slot)
  }

  /** The backend was dropped. */
  abort(reason: Error): void {
    this.#dropped = reason
    this.#dial?.cancel(reason)
    this.#relay?.drop(reason)
  }

  /** Cuts the client off. */
  reset(): void {
    resetSocket(this.#client)
  }

  #reach(slot: Slot): void {
    const { clock, limits } = this.#context
    this.#dropped = undefined
    slot.users.add(this)
    const bounds = { clock, timeoutMs: limits.dialTimeoutMs }
    this.#dial = dialBackend(slot.backend, this.#context, bounds, {
      onConnect: (backend) => this.#onReached(slot, backend),
      onFailure: (error) => this.#onUnreached(slot, error),
    })
  }

  #onReached(slot: Slot, backend: Duplex): void {
    this.#dial = undefined
    // Dropped while the news was on its way.
    if (this.#dropped !== undefined) {
      backend.on('error', ignore).destroy()
      this.#tryAnother(slot)
      return
    }
    if (this.#options.proxyProtocol !== undefined) backend.write(proxyHeader(this.#client))
    const { clock, limits } = this.#context
    this.#relay = new Relay(this.#client, backend, { clock, flushMs: limits.flushMs }, () => {
      slot.users.delete(this)
      this.#options.onClosed()
    })
  }

  #onUnreached(slot: Slot, error: unknown): void {
    this.#dial = undefined
    if (this.#dropped === undefined && blamesBackend(error)) this.#backends.bench(slot)
    const { log } = this.#context
    log.debug({ task: slot.backend.taskId, reason: errorText(error) }, 'backend not reached')
    this.#tryAnother(slot)
  }

  #tryAnother(slot: Slot): void {
    slot.users.delete(this)
    this.#tried = new Set([...this.#tried, slot.key])
    this.serve()
  }

  #refuse(): void {
    this.#isRefused = true
    if (this.#isClientClosed) this.#options.onClosed()
    else if (!this.#client.destroyed) resetSocket(this.#client)
  }
}

function ignore(): void {}
