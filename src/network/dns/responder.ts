/**
 * One question, one answer: the swarm's names from the replica, everything else from upstream.
 *
 * Rules: only tasks of this node are answered (by source address, which nothing on the way
 * changes). Names without a dot, `tasks.…` and names that end in a network of the caller are the
 * swarm's alone: they are never told to servers outside, and asking for one that is not there costs
 * no wait. A name that the swarm knows has no records but addresses.
 */
import type { Answer, DecodedPacket, Packet, Question } from 'dns-packet'
import type { Clock } from '../../base/clock.ts'
import { isSwarmError } from '../../base/errors.ts'
import type { Random } from '../../base/random.ts'
import { AF_INET6, addressText } from '../netlink/address.ts'
import { AnswerCache } from './answer-cache.ts'
import type { Caller, NamedAddresses, Names } from './names.ts'
import type { Upstream } from './upstream.ts'

/** Seconds that a service's address may be remembered: it stays while the service lives. */
export const SERVICE_TTL_S = 10

/** Seconds for addresses of tasks, which come and go. */
export const TASK_TTL_S = 1

/** Most questions that wait for upstream servers; more are refused at once. */
export const UPSTREAM_PENDING_MAX = 1_000

const RCODES = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 } as const
const IPV4_BYTES = 4
const RECURSION_AVAILABLE = 0x0080
const RECURSION_DESIRED = 0x0100
const AUTHORITATIVE = 0x0400

/** What answering needs. */
export interface ResponderComponents {
  readonly clock: Clock
  readonly random: Random
  /** The names of this moment. */
  readonly names: () => Promise<Names>
  readonly upstream: Pick<Upstream, 'ask'>
  /** The IPv6 address that belongs to an IPv4 one of the swarm; absent: there are none. */
  readonly ipv6Of?: (address: string) => string | undefined
}

type Rcode = keyof typeof RCODES

/** Answers questions. */
export class Responder {
  readonly #components: ResponderComponents
  readonly #cache: AnswerCache
  readonly #stopping = new AbortController()
  #pending = 0

  constructor(components: ResponderComponents) {
    this.#components = components
    this.#cache = new AnswerCache(components.clock)
  }

  /** The answer to `query` from `address`; undefined: none is due. */
  async answer(query: DecodedPacket, address: string): Promise<Packet | undefined> {
    if (query.type !== 'query') return undefined
    const { opcode } = query as { readonly opcode?: string }
    if (opcode !== undefined && opcode !== 'QUERY') return reply(query, 'NOTIMP')
    const [question, ...more] = query.questions ?? []
    if (question === undefined || more.length > 0) return reply(query, 'FORMERR')
    const names = await this.#components.names()
    const caller = names.callerAt(address)
    if (caller === undefined) return reply(query, 'REFUSED')
    const found = this.#swarmAnswer(query, question, { names, caller })
    if (found !== undefined) return found
    if (isSwarmName(question.name, caller, names) || !caller.outside)
      return reply(query, 'NXDOMAIN')
    return await this.#forward(query, question, caller.servers)
  }

  /** Withdraws what waits for upstream. */
  close(): void {
    this.#stopping.abort(new Error('resolver: closed'))
  }

  #swarmAnswer(
    query: DecodedPacket,
    question: Question,
    { names, caller }: { readonly names: Names; readonly caller: Caller },
  ): Packet | undefined {
    const { name, type } = question
    if (type === 'PTR') {
      const address = reverseAddress(name) ?? this.#reverseIpv6(name)
      const target = address === undefined ? undefined : names.reverse(caller, address)
      if (target === undefined) return undefined
      return authoritative(query, [{ type, name, ttl: TASK_TTL_S, data: target }])
    }
    const known = names.lookup(caller, name)
    if (known === undefined) return undefined
    // The types of the library know no `ANY`; clients do.
    const wanted = (type as string) === 'ANY' ? (['A', 'AAAA'] as const) : ([type] as const)
    return authoritative(
      query,
      wanted.flatMap((one) => this.#records(name, one, known)),
    )
  }

  #records(name: string, type: string, known: NamedAddresses): Answer[] {
    const ttl = known.kind === 'service' ? SERVICE_TTL_S : TASK_TTL_S
    const { ipv6Of } = this.#components
    const addresses = this.#shuffled(known.addresses)
    if (type === 'A') return addresses.map((data) => ({ type: 'A', name, ttl, data }))
    if (type !== 'AAAA' || ipv6Of === undefined || !known.hasIpv6) return []
    const six = addresses.flatMap((address) => ipv6Of(address) ?? [])
    return six.map((data) => ({ type: 'AAAA', name, ttl, data }))
  }

  /** The IPv4 address of the swarm behind `….ip6.arpa`. */
  #reverseIpv6(name: string): string | undefined {
    const nibbles = /^((?:[0-9a-f]\.){32})ip6\.arpa$/i.exec(name)?.[1]
    if (nibbles === undefined) return undefined
    const bytes = Buffer.from(nibbles.split('.').toReversed().join(''), 'hex')
    const ipv4 = bytes.subarray(-IPV4_BYTES).join('.')
    const isOurs = this.#components.ipv6Of?.(ipv4) === addressText(AF_INET6, bytes)
    return isOurs ? ipv4 : undefined
  }

  /** Clients take the first: each call begins elsewhere. */
  #shuffled(addresses: readonly string[]): string[] {
    const rest = [...addresses]
    const mixed: string[] = []
    while (rest.length > 0) {
      mixed.push(...rest.splice(this.#components.random.integer(rest.length), 1))
    }
    return mixed
  }

  /** What one server says is not told to those who ask others. */
  async #forward(
    query: DecodedPacket,
    question: Question,
    servers?: readonly string[],
  ): Promise<Packet> {
    const what = `${question.type} ${question.class ?? 'IN'} ${question.name.toLowerCase()}`
    const key = servers === undefined ? what : `${what} ${servers.join(' ')}`
    const kept = this.#cache.get(key, { stale: false })
    if (kept !== undefined) return relayed(query, kept)
    if (this.#pending >= UPSTREAM_PENDING_MAX) return reply(query, 'SERVFAIL')
    this.#pending += 1
    try {
      const { upstream } = this.#components
      const answer = await upstream.ask(question, this.#stopping.signal, servers)
      this.#cache.put(key, answer)
      return relayed(query, answer)
    } catch (error) {
      if (!isSwarmError(error) && !this.#stopping.signal.aborted) throw error
      const stale = this.#cache.get(key, { stale: true })
      return stale === undefined ? reply(query, 'SERVFAIL') : relayed(query, stale)
    } finally {
      this.#pending -= 1
    }
  }
}

/** Whether servers outside cannot know the name. */
function isSwarmName(name: string, caller: Caller, names: Names): boolean {
  const text = name.toLowerCase()
  return !text.includes('.') || text.startsWith('tasks.') || names.endsInNetwork(caller, text)
}

/** `4.3.2.1.in-addr.arpa` → `1.2.3.4` */
function reverseAddress(name: string): string | undefined {
  const match = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\.in-addr\.arpa$/i.exec(name)
  return match === null ? undefined : match.slice(1, 5).toReversed().join('.')
}

/** An answer without records. */
export function reply(query: DecodedPacket, rcode: Rcode): Packet {
  return response(query, RCODES[rcode], {})
}

function authoritative(query: DecodedPacket, answers: Answer[]): Packet {
  return response(query, AUTHORITATIVE, { answers })
}

/** What upstream said, under the identifier and the spelling of the one who asked. */
function relayed(query: DecodedPacket, answer: Packet): Packet {
  const { answers = [], authorities = [] } = answer
  const additionals = (answer.additionals ?? []).filter((one) => one.type !== 'OPT')
  const rcode = (answer.flags ?? 0) & 0xf
  return response(query, rcode, { answers, authorities, additionals })
}

function response(query: DecodedPacket, flags: number, sections: Partial<Packet>): Packet {
  const desired = (query.flags ?? 0) & RECURSION_DESIRED
  return {
    type: 'response',
    ...(query.id === undefined ? {} : { id: query.id }),
    flags: flags | desired | RECURSION_AVAILABLE,
    questions: query.questions ?? [],
    ...sections,
  }
}
