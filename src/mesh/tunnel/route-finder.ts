/**
 * Finds the way to a member that has no link of its own to this node: through one neighbour that
 * claims a link to it, the nearest first; if there is none, through a neighbour and one of its
 * neighbours, whom the neighbours are asked for at that moment. A way that failed is left out for a
 * while, so that the next one gets its turn.
 */
import type { Clock } from '../../base/clock.ts'
import { errorText, isSwarmError } from '../../base/errors.ts'
import type { Logger } from '../../base/log.ts'
import type { LinkStates, Neighbour } from './link-states.ts'

/** Neighbours that are asked whom they know, nearest first. */
export const ASKED_MAX = 16
/** Time in which they answer. */
export const ASK_TIMEOUT_MS = 1_000
/** Relays that a neighbour names. */
export const NAMED_RELAYS_MAX = 8
/** A way that failed is not tried again before. */
export const AVOID_MS = 5_000
/** Failed ways that are remembered; the oldest makes room. */
export const AVOIDED_MAX = 1_024

/** What a route finder is built from. */
export interface RouteFinderComponents {
  readonly clock: Clock
  readonly log: Logger
  readonly links: Pick<LinkStates, 'claims'>
  neighbours(): readonly Neighbour[]
  /** Asks a neighbour for the relays that it knows to `target`. @throws operating errors */
  ask(neighbour: string, target: string): Promise<readonly string[]>
}

/** Ways to members, as paths from this node. */
export class RouteFinder {
  readonly #self: string
  readonly #components: RouteFinderComponents
  /** Failed ways and until when they are left out; oldest first. */
  readonly #avoided = new Map<string, number>()

  constructor(self: string, components: RouteFinderComponents) {
    this.#self = self
    this.#components = components
  }

  /** Whether one neighbour or more claims a link to `target`. */
  relaysTo(target: string): readonly string[] {
    const { links } = this.#components
    return this.#nearest()
      .filter(({ nodeId }) => links.claims(nodeId, target))
      .map(({ nodeId }) => nodeId)
  }

  /** The best path that did not fail lately: this node, the relays, `target`. */
  async find(target: string): Promise<readonly string[] | undefined> {
    const short = this.relaysTo(target).map((relay) => [this.#self, relay, target])
    const best = short.find((path) => !this.#isAvoided(path))
    return best ?? (await this.#askNeighbours(target))
  }

  /** `path` did not work. */
  avoid(path: readonly string[]): void {
    const key = path.join(' ')
    this.#avoided.delete(key)
    this.#avoided.set(key, this.#components.clock.monotonicMs() + AVOID_MS)
    for (const oldest of this.#avoided.keys()) {
      if (this.#avoided.size <= AVOIDED_MAX) return
      this.#avoided.delete(oldest)
    }
  }

  async #askNeighbours(target: string): Promise<readonly string[] | undefined> {
    const asked = this.#nearest()
      .filter(({ nodeId }) => nodeId !== target)
      .slice(0, ASKED_MAX)
    const answers = await Promise.all(asked.map(({ nodeId }) => this.#ask(nodeId, target)))
    const paths = asked.flatMap(({ nodeId }, index) =>
      (answers[index] ?? []).map((second) => [this.#self, nodeId, second, target]),
    )
    return paths.find((path) => new Set(path).size === path.length && !this.#isAvoided(path))
  }

  async #ask(neighbour: string, target: string): Promise<readonly string[]> {
    try {
      return await this.#components.ask(neighbour, target)
    } catch (error) {
      if (!isSwarmError(error)) throw error
      this.#components.log.debug(
        { peer: neighbour, err: errorText(error) },
        'relays were not named',
      )
      return []
    }
  }

  #nearest(): Neighbour[] {
    const far = Number.POSITIVE_INFINITY
    return this.#components
      .neighbours()
      .toSorted((one, other) => (one.rttMs ?? far) - (other.rttMs ?? far) || 0)
  }

  #isAvoided(path: readonly string[]): boolean {
    const untilMs = this.#avoided.get(path.join(' '))
    return untilMs !== undefined && untilMs > this.#components.clock.monotonicMs()
  }
}
