/**
 * The placements of all wanted servers, changed one by one: a change of one server among thousands
 * costs what that server costs.
 *
 * Invariant: no two servers have the same mark. Of those that ask for one the server with the least
 * id has it, whatever came first; the others have a fault, and take its place when it goes.
 */
import { isDeepStrictEqual } from 'node:util'
import { errorText, isSwarmError } from '../../base/errors.ts'
import { serviceText } from '../netlink/ipvs.ts'
import type { Dropped } from '../nftables/difference.ts'
import type { BalancerFault, Scheduler, ServerChange, VirtualServer } from '../ports.ts'
import { takeOver } from '../server-change.ts'
import type { TimeSlices } from '../time-slices.ts'
import { droppedFlows } from './dropped-flows.ts'
import { placementOf, samePlacement } from './placement.ts'
import type { Placement } from './placement.ts'
import type { TableService } from './table.ts'

/** What a change came to. */
export interface PlacementChange {
  /** Services by `serviceText` to bring into line, those that are wanted no more included. */
  readonly services: ReadonlySet<string>
  /** Marks that came or went, or are given to packets otherwise. */
  readonly marks: ReadonlySet<number>
  /** Flows that led to backends that are gone. */
  readonly dropped: readonly Dropped[]
}

/** A {@link PlacementChange} that is being made. */
interface Touched extends PlacementChange {
  readonly services: Set<string>
  readonly marks: Set<number>
  readonly dropped: Dropped[]
}

/** The wanted state of the kernel's table. */
export class WantedPlacements {
  readonly #slices: TimeSlices
  readonly #missing: readonly Scheduler[]
  readonly #servers = new Map<string, VirtualServer>()
  /** What each server asks for, by id; none of those that cannot be placed. */
  readonly #asked = new Map<string, Placement>()
  /** Ids of the servers that ask for a mark; two only while there is a fault. */
  readonly #claims = new Map<number, Set<string>>()
  /** Who has a mark. */
  readonly #owners = new Map<number, Placement>()
  /** All services of the owners by `serviceText`, with the server's id. */
  readonly #services = new Map<string, { readonly id: string; readonly service: TableService }>()
  /** Why servers cannot be placed, by id. */
  readonly #faults = new Map<string, string>()

  /** @param missing schedulers that the kernel has not: others stand in */
  constructor(slices: TimeSlices, missing: readonly Scheduler[] = []) {
    this.#slices = slices
    this.#missing = missing
  }

  /** By id, as told last. */
  get servers(): ReadonlyMap<string, VirtualServer> {
    return this.#servers
  }

  /** The placement that has a mark. */
  owner(mark: number): Placement | undefined {
    return this.#owners.get(mark)
  }

  /** All marks that are wanted. */
  marks(): IterableIterator<number> {
    return this.#owners.keys()
  }

  /** The mark that a server has. */
  markOf(id: string): number | undefined {
    const mark = this.#asked.get(id)?.mark
    return mark !== undefined && this.#owners.get(mark)?.server.id === id ? mark : undefined
  }

  /** A wanted service by `serviceText`. */
  service(text: string): TableService | undefined {
    return this.#services.get(text)?.service
  }

  /** Id of the server that a service belongs to. */
  serverOf(text: string): string | undefined {
    return this.#services.get(text)?.id
  }

  /** Texts of all wanted services. */
  texts(): IterableIterator<string> {
    return this.#services.keys()
  }

  /** Servers that cannot be placed. */
  faults(): BalancerFault[] {
    return [...this.#faults].map(([id, message]) => ({ id, message }))
  }

  /** Takes a change over. */
  async change(change: ServerChange): Promise<PlacementChange> {
    const touched: Touched = { services: new Set(), marks: new Set(), dropped: [] }
    for (const id of takeOver(this.#servers, change).keys()) {
      for (const mark of this.#ask(id)) this.#settle(mark, touched)
      await this.#slices.maybeYield()
    }
    return touched
  }

  /** Places a server anew; the marks that it had and has. */
  #ask(id: string): ReadonlySet<number> {
    const server = this.#servers.get(id)
    const before = this.#asked.get(id)
    if (before !== undefined && server !== undefined && samePlacement(before.server, server)) {
      return new Set()
    }
    const touched = new Set<number>()
    this.#asked.delete(id)
    this.#faults.delete(id)
    if (before !== undefined) touched.add(this.#withdraw(before.mark, id))
    const after = server && this.#placementOf(server)
    if (after !== undefined) touched.add(this.#claim(after, id))
    return touched
  }

  #placementOf(server: VirtualServer): Placement | undefined {
    try {
      return placementOf(server, this.#missing)
    } catch (error) {
      if (!isSwarmError(error)) throw error
      this.#faults.set(server.id, errorText(error))
      return undefined
    }
  }

  #claim(placement: Placement, id: string): number {
    const { mark } = placement
    this.#asked.set(id, placement)
    const ids = this.#claims.get(mark)
    if (ids === undefined) this.#claims.set(mark, new Set([id]))
    else ids.add(id)
    return mark
  }

  #withdraw(mark: number, id: string): number {
    const ids = this.#claims.get(mark)
    ids?.delete(id)
    if (ids?.size === 0) this.#claims.delete(mark)
    return mark
  }

  /** Decides who has a mark. */
  #settle(mark: number, touched: Touched): void {
    const [first = '', ...others] = [...(this.#claims.get(mark) ?? [])].toSorted()
    this.#faults.delete(first)
    for (const id of others) this.#faults.set(id, `${id}: ${first} has its port or address`)
    const before = this.#owners.get(mark)
    const after = this.#asked.get(first)
    if (before === after) return
    if (after === undefined) this.#owners.delete(mark)
    else this.#owners.set(mark, after)
    if (!isDeepStrictEqual(before?.marks ?? [], after?.marks ?? [])) touched.marks.add(mark)
    if (before !== undefined) touched.dropped.push(...droppedFlows(before, after))
    this.#replaceService(before, after, touched)
  }

  #replaceService(
    before: Placement | undefined,
    after: Placement | undefined,
    { services }: Touched,
  ): void {
    if (before !== undefined) {
      const text = serviceText(before.service.key)
      this.#services.delete(text)
      services.add(text)
    }
    if (after === undefined) return
    const text = serviceText(after.service.key)
    this.#services.set(text, { id: after.server.id, service: after.service })
    services.add(text)
  }
}
