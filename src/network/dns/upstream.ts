/**
 * Asks the servers of the host: each question from a port of its own under an identifier of its own
 * (an answer must match both, and the question), one server after the other, over TCP when the
 * answer was cut. Source: RFC 1035, RFC 5452 §9, RFC 7766.
 */
import { createSocket } from 'node:dgram'
import { connect, isIPv6 } from 'node:net'
import { decode, encode } from 'dns-packet'
import type { DecodedPacket, Packet, Question } from 'dns-packet'
import type { Clock } from '../../base/clock.ts'
import { SwarmError } from '../../base/errors.ts'
import type { Random } from '../../base/random.ts'
import { frameOf, messagesIn } from './stream-frames.ts'

/** Milliseconds that a server may take. */
export const SERVER_TIMEOUT_MS = 2_000

/** How often the list of servers is gone through. */
const ROUNDS = 2

/** Bytes of an answer that is taken by datagram (RFC 6891's customary size). */
const DATAGRAM_BYTES_MAX = 1_232

const DNS_PORT = 53
const IDENTIFIERS = 2 ** 16

/** What asking needs. */
export interface UpstreamComponents {
  readonly clock: Clock
  readonly random: Random
  /** Addresses with a port behind `#` where it is not 53, best first. */
  readonly servers: () => Promise<readonly string[]>
}

/** Asks upstream servers. */
export class Upstream {
  readonly #components: UpstreamComponents

  constructor(components: UpstreamComponents) {
    this.#components = components
  }

  /**
   * Asks the host's servers, or those that were `asked` for.
   * @throws UNAVAILABLE when there is no server, or none answers
   */
  async ask(
    question: Question,
    signal: AbortSignal,
    asked?: readonly string[],
  ): Promise<DecodedPacket> {
    const servers = asked ?? (await this.#components.servers())
    const faults: string[] = []
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const server of servers) {
        try {
          return await this.#askServer(server, question, signal)
        } catch (error) {
          if (signal.aborted) throw error
          faults.push(`${server}: ${error instanceof Error ? error.message : String(error)}`)
        }
      }
    }
    const why = servers.length === 0 ? 'the host names no DNS server' : faults.join('; ')
    throw new SwarmError('UNAVAILABLE', `name ${question.name}: ${why}`)
  }

  async #askServer(
    server: string,
    question: Question,
    signal: AbortSignal,
  ): Promise<DecodedPacket> {
    const [address = '', port = String(DNS_PORT)] = server.split('#')
    const where = { address, port: Number(port) }
    const query = this.#query(question)
    const cut = await this.#within(signal, (limit) => byDatagram(where, query, limit))
    if (!cut.flag_tc) return cut
    return await this.#within(signal, (limit) => byStream(where, query, limit))
  }

  #query(question: Question): Packet & { readonly id: number } {
    const opt = {
      type: 'OPT',
      name: '.',
      udpPayloadSize: DATAGRAM_BYTES_MAX,
      extendedRcode: 0,
      ednsVersion: 0,
      flags: 0,
      flag_do: false,
      options: [],
    } as const
    return {
      type: 'query',
      id: this.#components.random.integer(IDENTIFIERS),
      flags: 0x0100,
      questions: [question],
      additionals: [{ ...opt, options: [] }],
    }
  }

  async #within<T>(signal: AbortSignal, ask: (limit: AbortSignal) => Promise<T>): Promise<T> {
    const late = new AbortController()
    const timer = this.#components.clock.after(SERVER_TIMEOUT_MS, () =>
      late.abort(new SwarmError('TIMED_OUT', 'no answer')),
    )
    try {
      return await ask(AbortSignal.any([signal, late.signal]))
    } finally {
      timer.cancel()
    }
  }
}

interface Server {
  readonly address: string
  readonly port: number
}

type Query = Packet & { readonly id: number }

function byDatagram(server: Server, query: Query, signal: AbortSignal): Promise<DecodedPacket> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(isIPv6(server.address) ? 'udp6' : 'udp4')
    const end = (finish: () => void): void => {
      signal.removeEventListener('abort', onAbort)
      socket.close()
      finish()
    }
    const onAbort = (): void => end(() => reject(signal.reason as Error))
    if (signal.aborted) {
      onAbort()
      return
    }
    signal.addEventListener('abort', onAbort, { once: true })
    socket.once('error', (error) => end(() => reject(error)))
    // Connected: the kernel drops what comes from anybody else, and tells when the port is closed.
    socket.connect(server.port, server.address, () => socket.send(encode(query)))
    socket.on('message', (bytes) => {
      const answer = answerTo(query, bytes)
      if (answer !== undefined) end(() => resolve(answer))
    })
  })
}

function byStream(server: Server, query: Query, signal: AbortSignal): Promise<DecodedPacket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: server.address, port: server.port, signal })
    const messages = messagesIn((bytes) => {
      const answer = answerTo(query, bytes)
      if (answer === undefined) return
      resolve(answer)
      socket.destroy()
    })
    socket.once('connect', () => socket.write(frameOf(encode(query))))
    socket.on('data', messages)
    socket.once('error', reject)
    socket.once('close', () => reject(new SwarmError('UNAVAILABLE', 'closed without an answer')))
  })
}

/** The answer in `bytes` if it is one to this query. */
function answerTo(query: Query, bytes: Buffer): DecodedPacket | undefined {
  const answer = decoded(bytes)
  const [asked] = query.questions ?? []
  const [echoed] = answer?.questions ?? []
  const same =
    echoed?.name.toLowerCase() === asked?.name.toLowerCase() && echoed?.type === asked?.type
  return answer?.type === 'response' && answer.id === query.id && same ? answer : undefined
}

/** The packet in `bytes`, or undefined when it is none. */
export function decoded(bytes: Buffer): DecodedPacket | undefined {
  try {
    return decode(bytes)
  } catch {
    return undefined
  }
}
