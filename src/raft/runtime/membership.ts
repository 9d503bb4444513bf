/**
 * Names and addresses of the members. The core knows numbers and suffrage (`ConfState`); the names
 * ride in the `context` of configuration changes and in the membership bytes of snapshots, so every
 * replica that applied the same log knows the same servers. Suffrage is always the core's word.
 */
import { Packr } from 'msgpackr'
import { SwarmError } from '../../base/errors.ts'
import type { ConfState, Index, PeerId } from '../core/entry.ts'
import { EMPTY_CONFIGURATION } from '../storage/empty-log.ts'
import { memberNumber } from './member-numbers.ts'
import type { Configuration, Server, ServerId } from './ports.ts'

const packr = new Packr({ useRecords: false })

/** A member's name and address, as a change introduces or renews it. */
export interface NamedAddress {
  readonly id: ServerId
  readonly address: string
}

type AddressRow = readonly [ServerId, string]
type MembershipRow = readonly [Index, readonly AddressRow[]]

/** The `context` of a configuration change. */
export function encodeContext(servers: readonly NamedAddress[]): Uint8Array {
  return packr.pack(servers.map(({ id, address }) => [id, address]))
}

/** Names and addresses in a context; none when the change brought none. */
export function decodeContext(context: Uint8Array | undefined): readonly NamedAddress[] {
  if (context === undefined || context.length === 0) return []
  const rows: readonly AddressRow[] = packr.unpack(context)
  return rows.map(([id, address]) => ({ id, address }))
}

/** Who is a member, as of the last applied configuration change. Immutable. */
export class Membership {
  static readonly none = new Membership(EMPTY_CONFIGURATION, new Map(), 0)

  readonly conf: ConfState
  /** Index of the entry that made it. */
  readonly index: Index
  readonly #names: ReadonlyMap<PeerId, NamedAddress>

  private constructor(conf: ConfState, names: ReadonlyMap<PeerId, NamedAddress>, index: Index) {
    this.conf = conf
    this.#names = names
    this.index = index
  }

  /** What a snapshot says. */
  static decode(conf: ConfState, bytes: Uint8Array): Membership {
    if (bytes.length === 0) return Membership.none.changed(conf, [], 0)
    const [index, rows]: MembershipRow = packr.unpack(bytes)
    return Membership.none.changed(
      conf,
      rows.map(([id, address]) => ({ id, address })),
      index,
    )
  }

  encode(): Uint8Array {
    const rows = [...this.#names.values()].map(({ id, address }) => [id, address])
    return packr.pack([this.index, rows])
  }

  /** After the entry at `index` put `conf` in force and named `servers`. */
  changed(conf: ConfState, servers: readonly NamedAddress[], index: Index): Membership {
    const names = new Map(this.#names)
    for (const server of servers) names.set(memberNumber(server.id), server)
    const members = new Set(peersOf(conf))
    for (const number of names.keys()) if (!members.has(number)) names.delete(number)
    return new Membership(conf, names, index)
  }

  get configuration(): Configuration {
    const servers: Server[] = []
    for (const number of peersOf(this.conf)) {
      const named = this.#names.get(number)
      if (named === undefined) continue
      servers.push({ ...named, suffrage: isVoter(this.conf, number) ? 'voter' : 'learner' })
    }
    servers.sort((a, b) => (a.id < b.id ? -1 : 1))
    return { servers, index: this.index, joint: this.conf.votersOutgoing.length > 0 }
  }

  get ids(): readonly ServerId[] {
    return [...this.#names.values()].map(({ id }) => id)
  }

  has(id: ServerId): boolean {
    return this.#names.get(memberNumber(id))?.id === id
  }

  suffrageOf(id: ServerId): Server['suffrage'] | undefined {
    if (!this.has(id)) return undefined
    return isVoter(this.conf, memberNumber(id)) ? 'voter' : 'learner'
  }

  /** @throws INVALID_ARGUMENT when another member has the number of `id` */
  assertDistinct(id: ServerId): void {
    const holder = this.#names.get(memberNumber(id))
    if (holder !== undefined && holder.id !== id) {
      const message = `server ${id}: has the number of server ${holder.id}; choose another id`
      throw new SwarmError('INVALID_ARGUMENT', message)
    }
  }
}

function isVoter(conf: ConfState, number: PeerId): boolean {
  return conf.voters.includes(number)
}

/** Every member's number, once. */
function peersOf(conf: ConfState): readonly PeerId[] {
  const { voters, votersOutgoing, learners, learnersNext } = conf
  return [...new Set([...voters, ...votersOutgoing, ...learners, ...learnersNext])]
}
