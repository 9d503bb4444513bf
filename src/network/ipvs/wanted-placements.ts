/**
 * The placements of all wanted servers, by id. Remembers those of the last time, so that a change
 * of one server among thousands costs a comparison of the others and no more.
 *
 * Invariant: no two servers have the same mark; the second one is a fault.
 */
import { errorText, isSwarmError } from '../../base/errors.ts'
import { serviceText } from '../netlink/ipvs.ts'
import type { BalancerFault, VirtualServer } from '../ports.ts'
import { markOf, placementOf, samePlacement } from './placement.ts'
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
    const added: Placement[] = []
    for (const server of wanted) {
      await this.#slices.maybeYield()
      const known = this.#placements.get(server.id)
      const isSame = known !== undefined && samePlacement(known.server, server)
      try {
        const owner = ownerOfMark(server, takenBy)
        if (owner !== undefined) {
          faults.push({ id: server.id, message: `${server.id}: ${owner} has its port or address` })
          continue
        }
        const placement = isSame ? known : placementOf(server, this.#options)
        next.set(server.id, placement)
        if (!isSame) added.push(placement)
      } catch (error) {
        if (!isSwarmError(error)) throw error
        faults.push({ id: server.id, message: errorText(error) })
      }
    }
    return { ...this.#replace(next, added), faults }
  }

  #replace(
    next: ReadonlyMap<string, Placement>,
    added: readonly Placement[],
  ): Omit<PlacementChange, 'faults'> {
    const services = new Set<string>()
    const gone = [...this.#placements].filter(([id, known]) => next.get(id) !== known)
    for (const [, placement] of gone) {
      for (const text of placement.services.map(({ key }) => serviceText(key))) {
        this.#services.delete(text)
        services.add(text)
      }
    }
    for (const { server, services: list } of added) {
      for (const service of list) {
        const text = serviceText(service.key)
        this.#services.set(text, { id: server.id, service })
        services.add(text)
      }
    }
    const before = markTexts(gone.map(([, placement]) => placement))
    const after = markTexts(added)
    this.#placements = next
    return { services, haveMarksChanged: before !== after }
  }
}

/** The id of the server that has this one's mark; else takes it. */
function ownerOfMark(server: VirtualServer, takenBy: Map<number, string>): string | undefined {
  const mark = markOf(server)
  const owner = takenBy.get(mark)
  if (owner === undefined) takenBy.set(mark, server.id)
  return owner
}

function markTexts(placements: readonly Placement[]): string {
  const texts = placements.flatMap(({ marks }) => marks.map((mark) => JSON.stringify(mark)))
  return texts.toSorted().join('\n')
}
