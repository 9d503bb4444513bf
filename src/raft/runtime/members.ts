/**
 * The membership in force here, and the names of those who are in it or wrote to us: kept together,
 * so that a change of one is always a change of both.
 */
import type { ConfState, Index, PeerId } from '../core/entry.ts'
import { MemberNames, memberNumber } from './member-numbers.ts'
import type { Membership, NamedAddress } from './membership.ts'
import { STRANGERS_MAX } from './options.ts'
import type { ServerId } from './ports.ts'

/** Who is who. */
export class Members {
  readonly self: PeerId
  readonly #selfId: ServerId
  readonly #names = new MemberNames(STRANGERS_MAX)
  #membership: Membership

  constructor(self: ServerId, membership: Membership) {
    this.#selfId = self
    this.self = memberNumber(self)
    this.#membership = membership
    this.#names.setMembers(membership.ids)
  }

  get membership(): Membership {
    return this.#membership
  }

  /** The ids of all members but this one. */
  get others(): readonly ServerId[] {
    return this.#membership.ids.filter((id) => id !== this.#selfId)
  }

  /** Whether this member votes. */
  get isVoter(): boolean {
    return this.#membership.conf.voters.includes(this.self)
  }

  /** Whether this member is the only voter, not on the way to another configuration. */
  get isOnlyVoter(): boolean {
    const { voters, votersOutgoing } = this.#membership.conf
    return votersOutgoing.length === 0 && voters.length === 1 && voters[0] === this.self
  }

  nameOf(peer: PeerId): ServerId | undefined {
    return this.#names.nameOf(peer)
  }

  /** The number of who wrote to us; a stranger's name is remembered for the answer. */
  meet(id: ServerId): PeerId {
    return this.#names.meet(id)
  }

  /** The entry at `index` put `conf` in force and named `servers`. */
  change(conf: ConfState, servers: readonly NamedAddress[], index: Index): void {
    this.replace(this.#membership.changed(conf, servers, index))
  }

  replace(membership: Membership): void {
    this.#membership = membership
    this.#names.setMembers(membership.ids)
  }
}
