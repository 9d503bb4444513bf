/**
 * The node's DNS server for its containers: datagrams and streams on the bridge's address. A
 * container's resolver is told this address and nothing else; the port is the usual one, so no
 * packet is rewritten. Source: RFC 1035, RFC 7766; network.md "DNS".
 */
import { createSocket } from 'node:dgram'
import type { RemoteInfo, Socket as DatagramSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { encode } from 'dns-packet'
import type { DecodedPacket, Packet } from 'dns-packet'
import { SwarmError, errorText } from '../../base/errors.ts'
import type { Logger } from '../../base/log.ts'
import { Responder, reply } from './responder.ts'
import type { ResponderComponents } from './responder.ts'
import { frameOf, messagesIn } from './stream-frames.ts'
import { decoded } from './upstream.ts'

/** The usual port. */
export const DNS_PORT = 53

/** Bytes of an answer by datagram when the client names no size (RFC 1035), and at most. */
const DATAGRAM_BYTES = 512
const DATAGRAM_BYTES_MAX = 1_232

/** Most streams at a time, and how long one may be silent, milliseconds. */
const STREAMS_MAX = 256
const STREAM_IDLE_MS = 10_000

/** Bytes of a message on a stream: its length has 16 bits. */
const STREAM_BYTES_MAX = 65_535

const TRUNCATED = 0x0200

/** What the resolver needs. */
export interface ResolverComponents extends ResponderComponents {
  readonly log: Logger
}

/** A listening resolver. */
export class Resolver {
  readonly #log: Logger
  readonly #responder: Responder
  readonly #datagrams: DatagramSocket
  readonly #streams: Server
  readonly #open = new Set<Socket>()

  private constructor(components: ResolverComponents, datagrams: DatagramSocket, streams: Server) {
    this.#log = components.log
    this.#responder = new Responder(components)
    this.#datagrams = datagrams
    this.#streams = streams
    datagrams.on('message', (bytes, from) => void this.#onDatagram(bytes, from))
    datagrams.on('error', (error) => this.#log.warn({ err: error }, 'resolver socket failed'))
    streams.on('connection', (socket) => this.#onStream(socket))
  }

  /** Listens on an address. @throws UNAVAILABLE when the port cannot be had */
  static async listen(
    components: ResolverComponents,
    options: { readonly address: string; readonly port?: number },
  ): Promise<Resolver> {
    const { address, port = DNS_PORT } = options
    const datagrams = createSocket('udp4')
    const streams = createServer()
    streams.maxConnections = STREAMS_MAX
    try {
      datagrams.bind({ address, port })
      await once(datagrams, 'listening')
      streams.listen(datagrams.address().port, address)
      await once(streams, 'listening')
    } catch (cause) {
      datagrams.close()
      streams.close()
      throw new SwarmError('UNAVAILABLE', `resolver ${address}:${port}: cannot listen`, { cause })
    }
    return new Resolver(components, datagrams, streams)
  }

  /** Where it listens. */
  get port(): number {
    return (this.#streams.address() as AddressInfo).port
  }

  /** Stops answering. */
  async close(): Promise<void> {
    this.#responder.close()
    for (const socket of this.#open) socket.destroy()
    const closed = [once(this.#datagrams, 'close'), once(this.#streams, 'close')]
    this.#datagrams.close()
    this.#streams.close()
    await Promise.all(closed)
  }

  async #onDatagram(bytes: Buffer, from: RemoteInfo): Promise<void> {
    const message = await this.#answer(bytes, from.address, datagramSize)
    if (message === undefined) return
    this.#datagrams.send(message, from.port, from.address, (error) => {
      if (error !== null) this.#log.debug({ err: error, to: from.address }, 'answer not sent')
    })
  }

  #onStream(socket: Socket): void {
    this.#open.add(socket)
    socket.setTimeout(STREAM_IDLE_MS, () => socket.destroy())
    socket.on('error', (error) => this.#log.debug({ err: error }, 'resolver stream failed'))
    socket.once('close', () => this.#open.delete(socket))
    const { remoteAddress = '' } = socket
    socket.on(
      'data',
      messagesIn((bytes) => void this.#onStreamMessage(socket, bytes, remoteAddress)),
    )
  }

  async #onStreamMessage(socket: Socket, bytes: Buffer, from: string): Promise<void> {
    const message = await this.#answer(bytes, from, () => STREAM_BYTES_MAX)
    if (message === undefined) socket.destroy()
    else if (!socket.destroyed) socket.write(frameOf(message))
  }

  /** Never rejects: a question that breaks something is answered with a failure. */
  async #answer(
    bytes: Buffer,
    from: string,
    bytesMax: (query: DecodedPacket) => number,
  ): Promise<Buffer | undefined> {
    const query = decoded(bytes)
    if (query === undefined) return undefined
    try {
      const answer = await this.#responder.answer(query, from)
      return answer === undefined ? undefined : fitted(answer, bytesMax(query))
    } catch (error) {
      this.#log.warn({ from, error: errorText(error) }, 'question not answered')
      // Its question may be what cannot be written.
      return encode({ ...reply(query, 'SERVFAIL'), questions: [] })
    }
  }
}

/** Bytes that the client takes by datagram (EDNS). */
function datagramSize(query: DecodedPacket): number {
  for (const one of query.additionals ?? []) {
    if (one.type !== 'OPT') continue
    return Math.min(DATAGRAM_BYTES_MAX, Math.max(DATAGRAM_BYTES, one.udpPayloadSize))
  }
  return DATAGRAM_BYTES
}

/** The message, without as many answers as do not fit, and marked so. */
function fitted(answer: Packet, bytesMax: number): Buffer {
  let message = encode(answer)
  let answers = answer.answers ?? []
  while (message.length > bytesMax) {
    answers = answers.slice(0, Math.floor(answers.length / 2))
    const flags = (answer.flags ?? 0) | TRUNCATED
    message = encode({ ...answer, flags, answers, authorities: [], additionals: [] })
    if (answers.length === 0) break
  }
  return message
}
