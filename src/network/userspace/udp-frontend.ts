/**
 * One published UDP port. Each client (address and port) has a session: a link of its own towards
 * one backend, so that answers find their way back. Sessions end when idle, when their backend is
 * dropped, or when the backend refuses (then it is benched and the next datagram goes elsewhere).
 *
 * Known weakness: on a wildcard address with several interfaces the kernel chooses the source
 * address of answers.
 */
import { createSocket } from 'node:dgram'
import type { RemoteInfo, Socket } from 'node:dgram'
import { isIPv6 } from 'node:net'
import type { Timer } from '../../base/clock.ts'
import type { VirtualServer } from '../ports.ts'
import { BackendSet } from './backend-set.ts'
import type { Slot } from './backend-set.ts'
import { SocketLink, StreamLink } from './datagram-link.ts'
import type { DatagramLink } from './datagram-link.ts'
import { dialDatagrams } from './dial.ts'
import { bindFault } from './frontend.ts'
import type { Frontend, FrontendContext } from './frontend.ts'

/** A UDP virtual server. */
export class UdpFrontend implements Frontend {
  readonly #context: FrontendContext
  readonly #backends: BackendSet
  /** By client; the one that was active longest ago comes first. */
  readonly #sessions = new Map<string, UdpSession>()
  #server: VirtualServer
  #socket: Socket | undefined
  #binding: Promise<string | undefined> | undefined
  #sweep: Timer | undefined
  #closed = false

  constructor(server: VirtualServer, context: FrontendContext) {
    this.#server = server
    this.#context = context
    const { scheduling, limits } = context
    this.#backends = new BackendSet(context, { scheduling, benchMs: limits.benchMs })
    this.update(server)
  }

  update(server: VirtualServer): void {
    this.#server = server
    this.#backends.update(server)
  }

  async listen(): Promise<string | undefined> {
    if (this.#socket === undefined && !this.#closed) {
      this.#binding ??= this.#bind().finally(() => {
        this.#binding = undefined
      })
    }
    return await this.#binding
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#sweep?.cancel()
    for (const session of this.#sessions.values()) session.close()
    this.#sessions.clear()
    const socket = this.#socket
    const stopped = new Promise<void>((resolve) => {
      if (socket === undefined) resolve()
      else socket.close(() => resolve())
    })
    await Promise.all([stopped, this.#binding])
  }

  #bind(): Promise<string | undefined> {
    return new Promise((resolve) => {
      const { address, port } = this.#server
      const socket = createSocket(
        isIPv6(address) ? { type: 'udp6', ipv6Only: true } : { type: 'udp4' },
      )
      socket.once('error', (error) => {
        socket.close()
        resolve(bindFault(this.#server, error))
      })
      socket.bind({ address, port }, () => {
        socket.removeAllListeners('error')
        socket.on('error', (err) => this.#context.log.warn({ err, port }, 'udp socket failed'))
        socket.on('message', (datagram, client) => this.#onDatagram(socket, datagram, client))
        if (this.#closed) socket.close()
        else this.#socket = socket
        resolve(undefined)
      })
    })
  }

  #onDatagram(socket: Socket, datagram: Buffer, client: RemoteInfo): void {
    const key = `${client.address} ${client.port}`
    const session = this.#sessions.get(key) ?? this.#openSession(socket, key, client)
    if (session === undefined) return
    this.#touch(key, session)
    session.send(datagram)
  }

  #openSession(socket: Socket, key: string, client: RemoteInfo): UdpSession | undefined {
    const slot = this.#backends.pick(new Set(), { remoteAddress: client.address })
    if (slot === undefined) return undefined
    const { limits } = this.#context
    if (this.#sessions.size >= limits.udpSessionsMax) this.#sessions.values().next().value?.close()
    const session = new UdpSession(slot, this.#context, {
      onAnswer: (answer) => {
        this.#touch(key, session)
        // A client that went away is no error of ours; what else can fail shows on the socket.
        if (!this.#closed) socket.send(answer, client.port, client.address, () => {})
      },
      onClose: (failed) => {
        if (failed) this.#backends.bench(slot)
        if (this.#sessions.get(key) === session) this.#sessions.delete(key)
      },
    })
    this.#sessions.set(key, session)
    return session
  }

  /** Marks a session as used now, by making it the last, and lets the sweep run. */
  #touch(key: string, session: UdpSession): void {
    if (session.closed) return
    session.usedMs = this.#context.clock.monotonicMs()
    this.#sessions.delete(key)
    this.#sessions.set(key, session)
    this.#scheduleSweep()
  }

  #scheduleSweep(): void {
    if (this.#sweep !== undefined || this.#closed) return
    const oldest = this.#sessions.values().next().value
    if (oldest === undefined) return
    const { clock, limits } = this.#context
    const dueMs = oldest.usedMs + limits.udpIdleMs - clock.monotonicMs()
    this.#sweep = clock.after(Math.max(1, dueMs), () => {
      this.#sweep = undefined
      this.#closeIdle()
      this.#scheduleSweep()
    })
  }

  #closeIdle(): void {
    const beforeMs = this.#context.clock.monotonicMs() - this.#context.limits.udpIdleMs
    for (const session of this.#sessions.values()) {
      if (session.usedMs > beforeMs) return
      session.close()
    }
  }
}

interface UdpSessionEvents {
  onAnswer(datagram: Uint8Array): void
  /** `failed`: the backend refused or cannot be reached. */
  onClose(failed: boolean): void
}

/** One client's datagrams to one backend. */
class UdpSession {
  /** Monotonic milliseconds of the last datagram, either way. */
  usedMs = 0
  readonly #slot: Slot
  readonly #user = new AbortController()
  readonly #events: UdpSessionEvents
  readonly #link: DatagramLink
  #closed = false

  constructor(slot: Slot, context: FrontendContext, events: UdpSessionEvents) {
    this.#slot = slot
    this.#events = events
    this.#link = this.#openLink(context)
    slot.users.add(this.#user)
    this.#user.signal.addEventListener('abort', () => this.close(), { once: true })
  }

  get closed(): boolean {
    return this.#closed
  }

  send(datagram: Uint8Array): void {
    this.#link.send(datagram)
  }

  close(): void {
    this.#end(false)
  }

  #openLink({ clock, dialer, limits }: FrontendContext): DatagramLink {
    const { backend } = this.#slot
    const pendingMax = limits.udpPendingMax
    const events = {
      onDatagram: (datagram: Uint8Array) => this.#events.onAnswer(datagram),
      onEnd: () => this.#end(true),
    }
    if (backend.local) return new SocketLink(backend, pendingMax, events)
    const bounds = { clock, signal: this.#user.signal, timeoutMs: limits.dialTimeoutMs }
    return new StreamLink(dialDatagrams(backend, dialer, bounds), pendingMax, events)
  }

  #end(failed: boolean): void {
    if (this.#closed) return
    this.#closed = true
    this.#slot.users.delete(this.#user)
    this.#link.close()
    this.#user.abort(new Error('datagrams: the session is over'))
    this.#events.onClose(failed)
  }
}
