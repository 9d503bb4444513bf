/**
 * Answers of upstream servers, kept as long as they say, and longer while no server can be reached:
 * a site that is cut off goes on with what it knew (RFC 8767). Bounded; the answer used longest ago
 * goes first.
 */
import type { DecodedPacket, Packet } from 'dns-packet'
import type { Clock } from '../../base/clock.ts'

/** Most answers that are kept. */
export const ANSWERS_MAX = 1_000

/** Longest time that an answer counts as fresh, seconds, whatever it says itself. */
export const TTL_MAX_S = 300

/** How long an answer without records counts as fresh when it does not say, seconds. */
const NEGATIVE_TTL_S = 15

/** How long an answer may be used while no server can be reached, seconds (RFC 8767 §5). */
export const STALE_MAX_S = 24 * 60 * 60

/** Time to live of an answer that is no longer fresh (RFC 8767 §5). */
const STALE_TTL_S = 30

interface Kept {
  readonly packet: DecodedPacket
  readonly atMs: number
  readonly ttlS: number
}

/** Keeps answers by what was asked. */
export class AnswerCache {
  readonly #clock: Clock
  /** In order of use. */
  readonly #kept = new Map<string, Kept>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** The answer with what is left of its times to live; undefined when there is none to give. */
  get(key: string, options: { readonly stale: boolean }): Packet | undefined {
    const kept = this.#kept.get(key)
    if (kept === undefined) return undefined
    const ageS = Math.floor((this.#clock.monotonicMs() - kept.atMs) / 1_000)
    const fresh = ageS < kept.ttlS
    if (!fresh && !(options.stale && ageS < kept.ttlS + STALE_MAX_S)) return undefined
    this.#kept.delete(key)
    this.#kept.set(key, kept)
    return aged(kept.packet, (ttlS) => (fresh ? Math.max(1, ttlS - ageS) : STALE_TTL_S))
  }

  /** Keeps what is worth it: answers and refusals of names, not failures of servers. */
  put(key: string, packet: DecodedPacket): void {
    const { rcode } = packet as { readonly rcode?: string }
    if (rcode !== 'NOERROR' && rcode !== 'NXDOMAIN') return
    this.#kept.delete(key)
    this.#kept.set(key, { packet, atMs: this.#clock.monotonicMs(), ttlS: ttlOf(packet) })
    if (this.#kept.size <= ANSWERS_MAX) return
    for (const oldest of this.#kept.keys()) {
      this.#kept.delete(oldest)
      return
    }
  }
}

/** Seconds; the least of the records', or what the zone says of names that do not exist. */
function ttlOf(packet: DecodedPacket): number {
  const ttls = (packet.answers ?? []).flatMap((one) => ('ttl' in one ? (one.ttl ?? []) : []))
  if (ttls.length > 0) return Math.min(TTL_MAX_S, ...ttls)
  for (const one of packet.authorities ?? []) {
    if (one.type === 'SOA') return Math.min(TTL_MAX_S, one.ttl ?? 0, one.data.minimum ?? 0)
  }
  return NEGATIVE_TTL_S
}

function aged(packet: DecodedPacket, left: (ttlS: number) => number): Packet {
  const shorten = <T extends { type: string }>(records: readonly T[] | undefined): T[] =>
    (records ?? []).map((one) =>
      'ttl' in one && one.type !== 'OPT' ? { ...one, ttl: left(Number(one.ttl)) } : one,
    )
  return {
    ...packet,
    answers: shorten(packet.answers),
    authorities: shorten(packet.authorities),
    additionals: shorten(packet.additionals),
  }
}
