/**
 * Who has a link to whom, as far as one's neighbours say. Each node tells its neighbours, when it
 * changes, which members it has no link of its own to (or, when it has few, which it has): in a
 * whole mesh that is an empty list, and a death among a thousand nodes is one id to each.
 *
 * Freshness: an announcement lives as long as the direct session with who made it, and that session
 * proves itself several times a second. It is a hint: a tunnel that fails says what was wrong.
 */
import type { Clock, Timer } from '../../base/clock.ts'
import { SwarmError, errorText, isSwarmError } from '../../base/errors.ts'
import type { Logger } from '../../base/log.ts'
import { asFields, integer, text } from '../control-message.ts'

/** A member with a direct session. */
export interface Neighbour {
  readonly nodeId: string
  /** Tells its runs apart. */
  readonly incarnation: string
  readonly rttMs: number | undefined
}

/** Changes in quick succession are one announcement. */
export const ANNOUNCE_COALESCE_MS = 50
/** An announcement that did not arrive is repeated. */
export const ANNOUNCE_RETRY_MS = 2_000
/** Ids in one announcement: of more members, who has links to few of them, leaves the rest out. */
export const ANNOUNCED_IDS_MAX = 2_048

/** Sends one announcement to a neighbour. @throws operating errors */
export type SendAnnouncement = (nodeId: string, body: unknown) => Promise<unknown>

/** What link states are built from. */
export interface LinkStatesComponents {
  readonly clock: Clock
  readonly log: Logger
  /** Members with a direct session, now. */
  neighbours(): readonly Pick<Neighbour, 'nodeId' | 'incarnation'>[]
  /** Ids of all members but this node. */
  members(): readonly string[]
  readonly send: SendAnnouncement
}

interface Claim {
  readonly epoch: string
  readonly sequence: number
  /** `only`: linked to these; `allBut`: linked to all members but these. */
  readonly kind: 'only' | 'allBut'
  readonly ids: ReadonlySet<string>
}

/** This node's announcements and its neighbours' claims. */
export class LinkStates {
  readonly #components: LinkStatesComponents
  /** Tells runs of this node apart. */
  readonly #epoch: string
  readonly #claims = new Map<string, Claim>()
  /** What each neighbour was told last, and which run of it. */
  readonly #told = new Map<string, { readonly incarnation: string; readonly sequence: number }>()
  #sequence = 0
  #announced = ''
  #timer: Timer | undefined
  #closed = false

  constructor(epoch: string, components: LinkStatesComponents) {
    this.#epoch = epoch
    this.#components = components
  }

  /** Links or members changed. */
  changed(): void {
    const neighbours = this.#neighbourIds()
    for (const id of this.#claims.keys()) if (!neighbours.has(id)) this.#claims.delete(id)
    for (const id of this.#told.keys()) if (!neighbours.has(id)) this.#told.delete(id)
    this.#schedule(ANNOUNCE_COALESCE_MS)
  }

  /** Takes an announcement; false when a newer one came first. @throws INVALID_ARGUMENT */
  take(nodeId: string, body: unknown): boolean {
    const claim = decodeClaim(body)
    const before = this.#claims.get(nodeId)
    const stale = before?.epoch === claim.epoch && before.sequence >= claim.sequence
    if (!stale) this.#claims.set(nodeId, claim)
    return !stale
  }

  /** Whether `neighbour` says that it has a link of its own to `target`. */
  claims(neighbour: string, target: string): boolean {
    const claim = this.#claims.get(neighbour)
    if (claim === undefined || neighbour === target) return false
    return claim.ids.has(target) === (claim.kind === 'only')
  }

  close(): void {
    this.#closed = true
    this.#timer?.cancel()
  }

  #schedule(delayMs: number): void {
    if (this.#closed) return
    this.#timer ??= this.#components.clock.after(delayMs, () => {
      this.#timer = undefined
      this.#announce()
    })
  }

  #announce(): void {
    const links = this.#ownLinks()
    const content = JSON.stringify(links)
    if (content !== this.#announced) this.#sequence += 1
    this.#announced = content
    const body = { epoch: this.#epoch, sequence: this.#sequence, ...links }
    for (const { nodeId, incarnation } of this.#components.neighbours()) {
      const told = this.#told.get(nodeId)
      if (told?.sequence === this.#sequence && told.incarnation === incarnation) continue
      this.#told.set(nodeId, { incarnation, sequence: this.#sequence })
      // Owned: it settles with the request's deadline and handles every operating error.
      void this.#tell(nodeId, body)
    }
  }

  async #tell(id: string, body: { readonly sequence: number }): Promise<void> {
    try {
      await this.#components.send(id, body)
    } catch (error) {
      if (!isSwarmError(error)) throw error
      this.#components.log.debug({ peer: id, err: errorText(error) }, 'links were not announced')
      // A neighbour of an older version never will understand; all others are told again.
      if (error.code === 'UNIMPLEMENTED' || this.#told.get(id)?.sequence !== body.sequence) return
      this.#told.delete(id)
      this.#schedule(ANNOUNCE_RETRY_MS)
    }
  }

  #neighbourIds(): ReadonlySet<string> {
    return new Set(this.#components.neighbours().map(({ nodeId }) => nodeId))
  }

  #ownLinks(): { readonly kind: Claim['kind']; readonly ids: readonly string[] } {
    const linked = this.#neighbourIds()
    const missing = this.#components.members().filter((id) => !linked.has(id))
    if (missing.length <= linked.size) return { kind: 'allBut', ids: missing.toSorted() }
    return { kind: 'only', ids: [...linked].toSorted().slice(0, ANNOUNCED_IDS_MAX) }
  }
}

function decodeClaim(body: unknown): Claim {
  const fields = asFields(body)
  const { kind, ids } = fields
  if (kind !== 'only' && kind !== 'allBut') {
    throw new SwarmError('INVALID_ARGUMENT', 'announcement: unknown kind')
  }
  if (!Array.isArray(ids) || ids.length > ANNOUNCED_IDS_MAX) {
    throw new SwarmError('INVALID_ARGUMENT', 'announcement: no list of nodes, or too long')
  }
  const known = new Set<string>()
  for (const id of ids) if (typeof id === 'string') known.add(id)
  return { epoch: text(fields, 'epoch'), sequence: integer(fields, 'sequence'), kind, ids: known }
}
