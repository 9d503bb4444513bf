/** Turns what happens inside the driver into observations. */
import type { Clock } from '../../base/clock.ts'
import type { Term } from '../core/entry.ts'
import type { SoftState } from '../core/ready.ts'
import type { StoredSnapshot } from '../storage/ports.ts'
import type { Members } from './members.ts'
import type { Observation } from './observations.ts'
import { PeerContacts } from './peer-contacts.ts'
import type { Server, ServerId } from './ports.ts'

/** Tells of one member. */
export class Announcer {
  readonly #tell: (observation: Observation) => void
  readonly #members: Members
  readonly #contacts: PeerContacts
  /** Members, as told last. */
  #servers: readonly Server[]

  constructor(clock: Clock, members: Members, tell: (observation: Observation) => void) {
    this.#tell = tell
    this.#members = members
    this.#servers = members.membership.configuration.servers
    this.#contacts = new PeerContacts(clock, {
      onLost: (peer, lastContactMs) => tell({ type: 'failedHeartbeat', peer, lastContactMs }),
      onBack: (peer) => tell({ type: 'resumedHeartbeat', peer }),
    })
  }

  /** Something came from `peer`. */
  heard(peer: ServerId): void {
    this.#contacts.heard(peer)
  }

  /** When `peer` was last heard, monotonic milliseconds. */
  lastContactMs(peer: ServerId): number | undefined {
    return this.#contacts.lastMs(peer)
  }

  /** The leader looks who was silent for `limitMs`; nobody else does. */
  look(limitMs: number): void {
    this.#contacts.look(this.#members.others, limitMs)
  }

  softState(before: SoftState, { role, lead }: SoftState, term: Term): void {
    this.#contacts.onRole(role === 'leader')
    if (role !== before.role) this.#tell({ type: 'role', role, term })
    const leader = this.#members.nameOf(lead)
    if (lead !== before.lead) this.#tell({ type: 'leader', leader, term })
  }

  snapshot(type: 'snapshotTaken' | 'snapshotInstalled', stored: StoredSnapshot): void {
    const { index, term } = stored.metadata
    this.#tell({ type, index, term, sizeBytes: stored.sizeBytes })
  }

  membersChanged(): void {
    this.#contacts.keep(this.#members.others)
    const { configuration } = this.#members.membership
    this.#tell({ type: 'configuration', configuration })
    const [before, now] = [this.#servers, configuration.servers]
    this.#servers = now
    for (const peer of without(now, before)) this.#tell({ type: 'peerAdded', peer })
    for (const peer of without(before, now)) this.#tell({ type: 'peerRemoved', peer })
  }
}

/** Those of `servers` whom `others` do not name. */
function without(servers: readonly Server[], others: readonly Server[]): readonly Server[] {
  const named = new Set(others.map(({ id }) => id))
  return servers.filter(({ id }) => !named.has(id))
}
