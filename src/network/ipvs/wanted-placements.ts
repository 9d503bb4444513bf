/**
 * The placements of all wanted servers, by id. Remembers those of the last time, so that a change
 * of one server among thousands costs a comparison of the others and no more.
 *
 * Invariant: no two servers have the same mark; the second one is a fault.
 */
import { errorText, isSwarmError } from '../../base/errors.ts'
import { serviceText } from '../netlink/ipvs.ts'
import type { BalancerFault, VirtualServer } from '../ports.ts'
import { placementOf, samePlacement } from './placement.ts'
import type { Placement, PlacementOptions } from './placement.ts'
import type { TableService } from './table.ts'
import type { TimeSlices } from './time-slices.ts'

/** What `update` found. */
export interface PlacementChange {
  /** Services by `serviceText` to bring into line, those that are wanted no more included. */
  readonly services: ReadonlySet<string>
  readonly haveMarksChanged: boolean
  /** Servers that cannot be placed. */
  readonly faults: readonly BalancerFault[]
}

/** The wanted state of the kernel's table. */
export class WantedPlacements {
  readonly #options: PlacementOptions
  readonly #slices: TimeSlices
  /** By server id. */
  #placements: ReadonlyMap<string, Placement> = new Map()
  /** All services of the placements by `serviceText`, with the server's id. */
  readonly #services = new Map<string, { readonly id: string; readonly service: TableService }>()

  constructor(slices: TimeSlices, options: PlacementOptions) {
    this.#slices = slices
    this.#options = options
  }

  /** By server id. */
  get placements(): ReadonlyMap<string, Placement> {
    return this.#placements
  }

  /** A wanted service by `serviceText`. */
  service(text: string): TableService | undefined {
    return this.#services.get(text)?.service
  }

  /** Id of the server that a service belongs to. */
  serverOf(text: string): string | undefined {
    return this.#services.get(text)?.id
  }

  /** All wanted services. */
  services(): TableService[] {
    return [...this.#services.values()].map(({ service }) => service)
  }

  /** Makes these the wanted servers. */
  async update(wanted: readonly VirtualServer[]): Promise<PlacementChange> {
    const next = new Map<string, Placement>()
    const faults: BalancerFault[] = []
    const takenBy = new Map<number, string>()
    for (const server of wanted) {
      try {
        const placement = this.#placementOf(server)
        const owner = takenBy.get(placement.mark)
        if (owner === undefined) next.set(server.id, placement)
        else
          faults.push({ id: server.id, message: `${server.id}: ${owner} has its port or address` })
        if (owner === undefined) takenBy.set(placement.mark, server.id)
      } catch (error) {
        if (!isSwarmError(error)) throw error
        faults.push({ id: server.id, message: errorText(error) })
      }
      const pause = this.#slices.maybeYield()
      if (pause !== undefined) await pause
    }
    return { ...(await this.#replace(next)), faults }
  }

  /** The known placement where nothing differs. */
  #placementOf(server: VirtualServer): Placement {
    const known = this.#placements.get(server.id)
    if (known !== undefined && samePlacement(known.server, server)) return known
    return placementOf(server, this.#options)
  }

  async #replace(next: ReadonlyMap<string, Placement>): Promise<Omit<PlacementChange, 'faults'>> {
    const services = new Set<string>()
    let haveMarksChanged = false
    for (const [id, placement] of this.#placements) {
      if (next.get(id) === placement) continue
      haveMarksChanged ||= next.get(id)?.mark !== placement.mark
      for (const { key } of placement.services) {
        const text = serviceText(key)
        this.#services.delete(text)
        services.add(text)
      }
      const pause = this.#slices.maybeYield()
      if (pause !== undefined) await pause
    }
    for (const [id, placement] of next) {
      const before = this.#placements.get(id)
      if (before === placement) continue
      haveMarksChanged ||= before?.mark !== placement.mark
      for (const service of placement.services) {
        const text = serviceText(service.key)
        this.#services.set(text, { id, service })
        services.add(text)
      }
      const pause = this.#slices.maybeYield()
      if (pause !== undefined) await pause
    }
    this.#placements = next
    return { services, haveMarksChanged }
  }
}
