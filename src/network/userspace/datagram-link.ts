/**
 * Datagrams to one task: over a socket of this node, or framed on a stream to the task's node. A
 * link holds a bounded number of datagrams while it connects or while the stream is full, and
 * drops the rest, as UDP may.
 */
import { createSocket } from 'node:dgram'
import type { Socket } from 'node:dgram'
import { isIPv6 } from 'node:net'
import type { RemoteConnection } from '../ports.ts'
import { frameOf, unframed } from './datagram-frame.ts'
import type { SocketAddress } from './dial.ts'

/** One client's way to one task. */
export interface DatagramLink {
  send(datagram: Uint8Array): void
  close(): void
}

/** What a link tells; nothing after `onEnd`, which is called once, and not by `close`. */
export interface DatagramEvents {
  onDatagram(datagram: Uint8Array): void
  /** The task refused, or the way to it broke. */
  onEnd(): void
}

/** A socket of this node, connected so that a refusal is seen. */
export class SocketLink implements DatagramLink {
  readonly #socket: Socket
  readonly #pendingMax: number
  readonly #events: DatagramEvents
  /** Datagrams that wait for the socket to be connected; undefined when it is. */
  #pending: Uint8Array[] | undefined = []
  #closed = false

  constructor(target: SocketAddress, pendingMax: number, events: DatagramEvents) {
    this.#pendingMax = pendingMax
    this.#events = events
    this.#socket = createSocket({ type: isIPv6(target.address) ? 'udp6' : 'udp4' })
    this.#socket.on('error', () => this.#end())
    this.#socket.on('message', (datagram) => events.onDatagram(datagram))
    this.#socket.connect(target.port, target.address, () => this.#onConnected())
  }

  send(datagram: Uint8Array): void {
    if (this.#closed) return
    if (this.#pending === undefined) {
      this.#socket.send(datagram, (error) => {
        if (error !== null) this.#end()
      })
    } else if (this.#pending.length < this.#pendingMax) this.#pending.push(datagram)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#socket.close()
  }

  #onConnected(): void {
    const waiting = this.#pending ?? []
    this.#pending = undefined
    for (const datagram of waiting) this.send(datagram)
  }

  #end(): void {
    if (this.#closed) return
    this.close()
    this.#events.onEnd()
  }
}

/** Frames on a stream that is being opened. */
export class StreamLink implements DatagramLink {
  readonly #events: DatagramEvents
  readonly #pendingMax: number
  /** Datagrams that wait for the stream. */
  readonly #pending: Uint8Array[] = []
  #connection: RemoteConnection | undefined
  #writing = false
  #closed = false

  /** `connecting` is aborted by its owner when the link is closed. */
  constructor(connecting: Promise<RemoteConnection>, pendingMax: number, events: DatagramEvents) {
    this.#events = events
    this.#pendingMax = pendingMax
    void this.#run(connecting)
  }

  send(datagram: Uint8Array): void {
    if (this.#closed || this.#pending.length >= this.#pendingMax) return
    this.#pending.push(datagram)
    void this.#write()
  }

  close(): void {
    this.#closed = true
    this.#pending.length = 0
    this.#connection?.abort(new Error('datagrams: the session is over'))
  }

  /** Reads until the stream ends; every end but `close` is told. */
  async #run(connecting: Promise<RemoteConnection>): Promise<void> {
    try {
      const connection = await connecting
      this.#connection = connection
      if (this.#closed) this.close()
      void this.#write()
      for await (const datagram of unframed(connection.source)) this.#events.onDatagram(datagram)
    } catch {
      // How a stream broke does not matter to datagrams; that it did is told below.
    }
    this.#end()
  }

  async #write(): Promise<void> {
    const connection = this.#connection
    if (connection === undefined || this.#writing) return
    this.#writing = true
    try {
      for (;;) {
        const datagram = this.#pending.shift()
        if (datagram === undefined) break
        await connection.write(frameOf(datagram))
      }
    } catch {
      // The reader sees the same break; this is for a stream that breaks one way only.
      this.#end()
    }
    this.#writing = false
  }

  #end(): void {
    if (this.#closed) return
    this.close()
    this.#events.onEnd()
  }
}

/** Carries datagrams between a stream and a local task, until either ends or `signal` aborts. */
export function relayDatagrams(
  connection: RemoteConnection,
  target: SocketAddress,
  options: { readonly signal: AbortSignal; readonly pendingMax: number },
): Promise<void> {
  const { signal, pendingMax } = options
  return new Promise((resolve) => {
    const finish = (): void => {
      signal.removeEventListener('abort', finish)
      socket.close()
      stream.close()
      resolve()
    }
    const socket: DatagramLink = new SocketLink(target, pendingMax, {
      onDatagram: (datagram) => stream.send(datagram),
      onEnd: finish,
    })
    const stream: DatagramLink = new StreamLink(Promise.resolve(connection), pendingMax, {
      onDatagram: (datagram) => socket.send(datagram),
      onEnd: finish,
    })
    signal.addEventListener('abort', finish, { once: true })
    if (signal.aborted) finish()
  })
}
