/**
 * Raft's transport over plain TCP, for groups in a network that is trusted: nobody is
 * authenticated and nothing is encrypted (Skein itself uses the mesh). Each member calls every
 * other, so each direction has connections of its own:
 *
 *   bulk     entries and their answers; one frame holds what one turn has
 *   urgent   heartbeats and votes: never behind entries
 *   snapshot one for each snapshot, with back-pressure
 *
 * A message to a member that cannot be reached, or whose queue is full, is lost: Raft repeats it.
 */
import { createServer, type Server as NetServer, type Socket } from 'node:net'
import { assert } from '../../base/assert.ts'
import type { Clock, Timer } from '../../base/clock.ts'
import { SwarmError } from '../../base/errors.ts'
import type { Logger } from '../../base/log.ts'
import type { Random } from '../../base/random.ts'
import type { Message } from '../core/message.ts'
import { decodeMessages } from '../runtime/codec.ts'
import type { ServerId, SnapshotTransfer, Transport, TransportHandler } from '../runtime/ports.ts'
import { Connection, TICK_MS } from './tcp-connection.ts'
import { dial, parseAddress } from './tcp-dial.ts'
import { FRAME, type FrameKind } from './tcp-frames.ts'
import { decodeHello, encodeHello, type Hello } from './tcp-hello.ts'
import { TcpPeer } from './tcp-peer.ts'
import { IncomingSnapshot, OutgoingSnapshot } from './tcp-snapshot.ts'

/** What the transport is built from. */
export interface TcpTransportComponents {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}

/** What the transport is built with. */
export interface TcpTransportOptions {
  readonly id: ServerId
  /** `host:port` to listen on; port 0 takes a free one. */
  readonly listen: string
}

/** Moves Raft's messages over TCP. */
export class TcpTransport implements Transport {
  readonly #components: TcpTransportComponents
  readonly #options: TcpTransportOptions
  readonly #server: NetServer
  readonly #peers = new Map<ServerId, TcpPeer>()
  /** Connections that others made, and those of outgoing snapshots. */
  readonly #connections = new Set<Connection>()
  #handler: TransportHandler | undefined
  #timer: Timer | undefined
  #status: 'new' | 'started' | 'closed' = 'new'

  /** Binds the address at once; takes messages after `start`. @throws UNAVAILABLE */
  static async listen(
    components: TcpTransportComponents,
    options: TcpTransportOptions,
  ): Promise<TcpTransport> {
    const transport = new TcpTransport(components, options)
    await transport.#listen()
    return transport
  }

  private constructor(components: TcpTransportComponents, options: TcpTransportOptions) {
    this.#components = components
    this.#options = options
    this.#server = createServer({ noDelay: true }, (socket) => this.#onSocket(socket))
  }

  /** Where this member can be reached from here: `host:port`. */
  get address(): string {
    const { host } = parseAddress(this.#options.listen)
    const bound = this.#server.address()
    assert(bound !== null && typeof bound === 'object', 'the transport listens')
    return `${host.includes(':') ? `[${host}]` : host}:${bound.port}`
  }

  /** Who is called, and where; replaces what was given before. */
  setPeers(addresses: ReadonlyMap<ServerId, string>): void {
    if (this.#status === 'closed') return
    for (const [id, peer] of this.#peers) {
      if (addresses.get(id) === peer.address) continue
      peer.close()
      this.#peers.delete(id)
    }
    for (const [id, address] of addresses) {
      if (id === this.#options.id || this.#peers.has(id)) continue
      const onUnreachable = (reason: 'closed' | 'timeout'): void =>
        this.#handler?.onUnreachable(id, reason)
      const settings = { self: this.#options.id, id, address, onUnreachable }
      this.#peers.set(id, new TcpPeer(this.#components, settings))
    }
  }

  start(handler: TransportHandler): void {
    assert(this.#status === 'new', 'a raft transport starts once')
    this.#status = 'started'
    this.#handler = handler
    this.#arm()
  }

  send(to: ServerId, messages: readonly Message[]): void {
    this.#peers.get(to)?.send(messages)
  }

  async sendSnapshot(
    to: ServerId,
    transfer: SnapshotTransfer,
    { signal }: { readonly signal: AbortSignal },
  ): Promise<void> {
    const peer = this.#peers.get(to)
    if (peer === undefined) throw new SwarmError('UNAVAILABLE', `server ${to}: is unknown`)
    const snapshot = new OutgoingSnapshot()
    const socket = await dial(this.#components.clock, peer.address, signal)
    const connection = new Connection(socket, {
      onFrame: (kind, body) => snapshot.onFrame(kind, body),
      onClose: (_reason, cause) => snapshot.onClose(cause),
    })
    const onAbort = (): void => connection.close('closed', 'withdrawn')
    this.#connections.add(connection)
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      const hello = encodeHello({ from: this.#options.id, to, lane: 'snapshot' })
      connection.send(FRAME.hello, hello)
      await snapshot.send(connection, transfer)
    } finally {
      signal.removeEventListener('abort', onAbort)
      this.#connections.delete(connection)
      connection.close('closed', 'done')
    }
  }

  async close(): Promise<void> {
    if (this.#status === 'closed') return
    this.#status = 'closed'
    this.#handler = undefined
    this.#timer?.cancel()
    for (const peer of this.#peers.values()) peer.close()
    this.#peers.clear()
    for (const connection of this.#connections) connection.close('closed', 'this member stops')
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
  }

  #listen(): Promise<void> {
    const { listen } = this.#options
    const { host, port } = parseAddress(listen)
    return new Promise((resolve, reject) => {
      this.#server.once('error', (cause) => {
        reject(new SwarmError('UNAVAILABLE', `raft: cannot listen on ${listen}`, { cause }))
      })
      this.#server.listen(port, host, resolve)
    })
  }

  #arm(): void {
    this.#timer = this.#components.clock.after(TICK_MS, () => {
      for (const peer of this.#peers.values()) peer.tick()
      for (const connection of this.#connections) connection.tick()
      this.#arm()
    })
  }

  #onSocket(socket: Socket): void {
    let receive: ((kind: FrameKind, body: Uint8Array) => void) | undefined
    let snapshot: IncomingSnapshot | undefined
    const connection: Connection = new Connection(socket, {
      onFrame: (kind, body) => {
        if (receive !== undefined) {
          receive(kind, body)
          return
        }
        const { from, lane } = this.#greet(kind, body)
        if (lane === 'snapshot') snapshot = this.#newSnapshot(from, connection)
        const incoming = snapshot
        receive = (next, content) =>
          incoming === undefined
            ? this.#onMessages(from, next, content)
            : incoming.onFrame(next, content)
      },
      onClose: (_reason, cause) => {
        this.#connections.delete(connection)
        this.#components.log.debug({ cause }, 'a raft connection ended')
        snapshot?.onClose()
      },
    })
    this.#connections.add(connection)
  }

  #greet(kind: FrameKind, body: Uint8Array): Hello {
    if (kind !== FRAME.hello) throw new SwarmError('INVALID_ARGUMENT', 'raft hello: is missing')
    const hello = decodeHello(body)
    if (hello.to !== this.#options.id) {
      throw new SwarmError('INVALID_ARGUMENT', `raft hello: is for ${hello.to}`)
    }
    this.#peers.get(hello.from)?.nudge()
    return hello
  }

  #newSnapshot(from: ServerId, connection: Connection): IncomingSnapshot {
    return new IncomingSnapshot(connection, async (transfer) => {
      if (this.#handler === undefined) {
        throw new SwarmError('SHUTTING_DOWN', 'raft: this member takes no snapshot now')
      }
      await this.#handler.onSnapshot(from, transfer)
    })
  }

  #onMessages(from: ServerId, kind: FrameKind, body: Uint8Array): void {
    if (kind !== FRAME.messages) {
      throw new SwarmError('INVALID_ARGUMENT', 'raft connection: unexpected frame')
    }
    // Entries live on in the log: a copy keeps the socket's buffers from living on with them.
    for (const message of decodeMessages(new Uint8Array(body))) {
      this.#handler?.onMessage(from, message)
    }
  }
}
