/**
 * The balancer's nft table of one family in the kernel: its rules, reading it, changing its
 * elements.
 *
 * Elements go by netlink in transactions: a tenth of the time of an `nft` process at any size of
 * the table. A transaction is done as a whole or not at all; large changes are several, none of
 * which holds the event loop for long.
 */
import { isNetlinkError } from '../netlink/netlink-error.ts'
import type { NetlinkRequest } from '../netlink/message-writer.ts'
import { NLM_F_DUMP } from '../netlink/message.ts'
import {
  NFNL_SUBSYS_NFTABLES,
  NFPROTO,
  nfnetlinkHeader,
  nfnetlinkType,
} from '../netlink/nfnetlink.ts'
import { addElements, deleteElements, dumpElements } from '../netlink/nft-element.ts'
import { readElements } from '../netlink/nft-element-reader.ts'
import { decodeTableName, deleteTable, dumpTables } from '../netlink/nftables.ts'
import type { NftTable } from '../netlink/nftables.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { runNft } from '../plane/run-nft.ts'
import type { AddressFamily } from '../ports.ts'
import type { TimeSlices } from '../time-slices.ts'
import type { Change, Element } from './difference.ts'
import { decodeElement, encodeElement, encodeKey, mapOf } from './element-codec.ts'
import { frontendText } from './placement.ts'
import type { Frontend, Placement, Target } from './placement.ts'
import { FRONTEND_KINDS, RULE_COUNT, revisionSet, skeletonScript } from './skeleton.ts'
import type { MapName } from './skeleton.ts'

/** Elements of a transaction, unless one frontend has more: 1 to 2 ms of encoding. */
const CHUNK_ELEMENTS = 300
/** Numbers of nf_tables' rules: the command that reads them, and the attribute of their table. */
const GET_RULE = 7
const RULE_TABLE = 1
/** How a kernel says that it has not this family. */
const NO_SUCH_FAMILY = ['EAFNOSUPPORT', 'EOPNOTSUPP', 'EPROTONOSUPPORT']

const MAP_NAMES: readonly MapName[] = FRONTEND_KINDS.flatMap((kind): MapName[] => [
  `${kind}_servers`,
  `${kind}_slots`,
])

/** Where the table is. */
export interface TablePlace {
  readonly table: string
  /** Path of a network namespace; without one this process's. */
  readonly netns?: string
}

/** What the table needs. */
export interface KernelTableComponents {
  readonly socket: NetlinkSocket
  readonly slices: TimeSlices
}

/** What the kernel has, by text of the frontend. */
export type Placements = Map<string, Placement>

/** A placement as it is read. */
export interface ReadPlacement extends Placement {
  chain: string | undefined
  readonly slots: Map<number, Target>
  readonly frontend: Frontend
}

/** The table of one balancer in one family. */
export class KernelTable {
  readonly #socket: NetlinkSocket
  readonly #place: TablePlace
  readonly #family: AddressFamily
  readonly #slices: TimeSlices
  readonly #table: NftTable

  constructor(components: KernelTableComponents, place: TablePlace, family: AddressFamily) {
    this.#socket = components.socket
    this.#slices = components.slices
    this.#place = place
    this.#family = family
    this.#table = { family, name: place.table }
  }

  /**
   * Makes the rules, without elements, unless they are there in this version and number; whether it
   * did.
   */
  async ensureRules(): Promise<boolean> {
    if (await this.#hasRules()) return false
    const { netns, table } = this.#place
    await runNft(skeletonScript(table, this.#family), netns === undefined ? {} : { netns })
    return true
  }

  /** Whether there is a table, of whatever version. @throws NetlinkError */
  async exists(): Promise<boolean> {
    try {
      const names = (await this.#socket.dump(dumpTables(this.#family))).map(decodeTableName)
      return names.includes(this.#place.table)
    } catch (error) {
      if (isNetlinkError(error, ...NO_SUCH_FAMILY)) return false
      throw error
    }
  }

  /** Adds all elements to `found`. @throws NetlinkError ENOENT when there is no table */
  async readInto(found: Map<string, ReadPlacement>): Promise<void> {
    const family = this.#family
    for (const map of MAP_NAMES) {
      for (const element of await readElements(this.#socket, this.#set(map))) {
        addTo(found, decodeElement({ map, family }, element))
        await this.#slices.maybeYield()
      }
    }
  }

  /** Makes changes in order. @throws NetlinkError; those before the one refused are done */
  async change(changes: readonly Change[]): Promise<void> {
    for (const chunk of chunksOf(changes)) {
      await this.#socket.transaction(NFNL_SUBSYS_NFTABLES, this.#requests(chunk))
    }
  }

  /** Removes the table. Connections that it directed go on. */
  async remove(): Promise<void> {
    try {
      await this.#socket.transaction(NFNL_SUBSYS_NFTABLES, [deleteTable(this.#table)])
    } catch (error) {
      if (!isNetlinkError(error, 'ENOENT', ...NO_SUCH_FAMILY)) throw error
    }
  }

  async #hasRules(): Promise<boolean> {
    try {
      await this.#socket.dump(dumpElements({ table: this.#table, set: revisionSet(this.#family) }))
      return (await this.#socket.dump(dumpRules(this.#table))).length === RULE_COUNT
    } catch (error) {
      if (isNetlinkError(error, 'ENOENT')) return false
      throw error
    }
  }

  #requests(changes: readonly Change[]): NetlinkRequest[] {
    const gone = byMap(changes.flatMap((change) => change.gone))
    const fresh = byMap(changes.flatMap((change) => change.fresh))
    return [
      ...[...gone].flatMap(([map, elements]) =>
        deleteElements(this.#set(map), elements.map(encodeKey)),
      ),
      ...[...fresh].flatMap(([map, elements]) =>
        addElements(this.#set(map), elements.map(encodeElement)),
      ),
    ]
  }

  #set(map: MapName): { readonly table: NftTable; readonly set: string } {
    return { table: this.#table, set: map }
  }
}

/** Reads the rules of a table, one a message: for `dump`. */
function dumpRules(table: NftTable): NetlinkRequest {
  return {
    operation: `list rules of ${table.family} ${table.name}`,
    type: nfnetlinkType(NFNL_SUBSYS_NFTABLES, GET_RULE),
    flags: NLM_F_DUMP,
    body: (writer) => {
      nfnetlinkHeader(writer, NFPROTO[table.family])
      writer.text(RULE_TABLE, table.name)
    },
  }
}

function addTo(found: Map<string, ReadPlacement>, element: Element): void {
  const { frontend } = element
  const text = frontendText(frontend)
  const placement = found.get(text) ?? emptyPlacement(frontend)
  found.set(text, placement)
  if (element.type === 'server') placement.chain = element.chain
  else placement.slots.set(element.slot, element.target)
}

function emptyPlacement(frontend: Frontend): ReadPlacement {
  return { frontend, chain: undefined, slots: new Map(), lost: new Set() }
}

function byMap(elements: readonly Element[]): Map<MapName, Element[]> {
  return Map.groupBy(elements, mapOf)
}

// In groups of about CHUNK_ELEMENTS.
function* chunksOf(changes: readonly Change[]): Generator<Change[]> {
  let chunk: Change[] = []
  let elements = 0
  for (const change of changes) {
    chunk.push(change)
    elements += change.gone.length + change.fresh.length
    if (elements < CHUNK_ELEMENTS) continue
    yield chunk
    chunk = []
    elements = 0
  }
  if (chunk.length > 0) yield chunk
}
