/**
 * Marks packets with a table of nftables that is this driver's own. The rules are loaded once by
 * `nft`; elements change by netlink, all of one `apply` in one transaction.
 *
 * Invariants: what the table holds is believed only while the ruleset's generation says that nobody
 * else changed anything, or until a transaction fails; then the rules are loaded again (which keeps
 * the elements) and the elements are read. So a restart adopts what it finds, and a table that was
 * flushed by somebody comes back.
 */
import type { Native } from '../netlink/native.ts'
import { isNetlinkError } from '../netlink/netlink-error.ts'
import type { NetlinkRequest } from '../netlink/message-writer.ts'
import { NFNL_SUBSYS_NFTABLES } from '../netlink/nfnetlink.ts'
import {
  addElements,
  decodeElements,
  deleteElements,
  dumpElements,
} from '../netlink/nft-element.ts'
import type { NftElement } from '../netlink/nft-element.ts'
import { fieldsBytes } from '../netlink/nft-field.ts'
import { decodeGeneration, deleteTable, getGeneration } from '../netlink/nftables.ts'
import type { NftTable } from '../netlink/nftables.ts'
import { NetlinkSocket } from '../netlink/socket.ts'
import { MARK_MAPS, markElement, markScript } from './mark-rules.ts'
import type { MarkMap } from './mark-rules.ts'
import { runNft } from './nft-script.ts'
import type { PacketMarks } from './packet-marks.ts'
import type { PacketMark } from './placement.ts'

/** Where the table is. */
export interface NftMarksOptions {
  /** The table's name: `skein_<8>_lb`. */
  readonly table: string
  /** Path of the network namespace; without one this process's. */
  readonly netns?: string
}

/** Elements of a map by their key's bytes in hex. */
type Elements = Map<string, NftElement>

/** Marks packets with nftables. */
export class NftMarks implements PacketMarks {
  readonly #socket: NetlinkSocket
  readonly #table: NftTable
  readonly #netns: string | undefined
  /** What the maps hold; undefined = to be read. */
  #known: ReadonlyMap<MarkMap, Elements> | undefined
  /** The ruleset's generation when `#known` was read or written last. */
  #generation = 0
  #wanted: ReadonlyMap<MarkMap, Elements> = emptyMaps()

  private constructor(socket: NetlinkSocket, options: NftMarksOptions) {
    this.#socket = socket
    this.#table = { family: 'inet', name: options.table }
    this.#netns = options.netns
  }

  /** Loads the rules; elements of an earlier run stay until `apply`. @throws SwarmError */
  static async open(native: Native, options: NftMarksOptions): Promise<NftMarks> {
    const { netns } = options
    const where = netns === undefined ? {} : { netns }
    const socket = await NetlinkSocket.open(native, { protocol: 'netfilter', ...where })
    const marks = new NftMarks(socket, options)
    try {
      await marks.#adopt()
      return marks
    } catch (error) {
      socket.close()
      throw error
    }
  }

  async apply(wanted: readonly PacketMark[]): Promise<void> {
    this.#wanted = mapsOf(wanted)
    const wasKnown = this.#known !== undefined
    try {
      await this.#write(this.#known ?? (await this.#adopt()))
    } catch (error) {
      this.#known = undefined
      if (!wasKnown || !isNetlinkError(error)) throw error
      // What was believed was wrong: look, and try once more.
      await this.#write(await this.#adopt())
    }
  }

  async check(): Promise<boolean> {
    if (this.#known !== undefined && (await this.#readGeneration()) === this.#generation) {
      return false
    }
    const changes = await this.#write(await this.#adopt())
    return changes > 0
  }

  async remove(): Promise<void> {
    this.#known = undefined
    try {
      await this.#socket.transaction(NFNL_SUBSYS_NFTABLES, [deleteTable(this.#table)])
    } catch (error) {
      if (!isNetlinkError(error, 'ENOENT')) throw error
    }
  }

  close(): void {
    this.#socket.close()
  }

  /** Loads the rules and reads the elements. */
  async #adopt(): Promise<ReadonlyMap<MarkMap, Elements>> {
    await runNft(markScript(this.#table), this.#netns)
    const generation = await this.#readGeneration()
    const known = emptyMaps()
    for (const map of MARK_MAPS) {
      const messages = await this.#socket.dump(dumpElements({ table: this.#table, set: map }))
      for (const { key, data } of messages.flatMap(decodeElements)) {
        known.get(map)?.set(hex(key), { key: [key], data: [data ?? new Uint8Array()] })
      }
    }
    this.#generation = generation
    this.#known = known
    return known
  }

  /** Makes the elements those wanted; how many differed. */
  async #write(known: ReadonlyMap<MarkMap, Elements>): Promise<number> {
    const requests: NetlinkRequest[] = []
    let changes = 0
    for (const map of MARK_MAPS) {
      const set = { table: this.#table, set: map }
      const { gone, come } = difference(known.get(map), this.#wanted.get(map))
      changes += gone.length + come.length
      if (gone.length > 0) requests.push(...deleteElements(set, gone))
      if (come.length > 0) requests.push(...addElements(set, come))
    }
    if (requests.length > 0) {
      await this.#socket.transaction(NFNL_SUBSYS_NFTABLES, requests)
      this.#generation = await this.#readGeneration()
    }
    this.#known = this.#wanted
    return changes
  }

  async #readGeneration(): Promise<number> {
    const [message] = await this.#socket.request(getGeneration())
    return message === undefined ? 0 : decodeGeneration(message)
  }
}

function emptyMaps(): Map<MarkMap, Elements> {
  return new Map(MARK_MAPS.map((map) => [map, new Map()]))
}

function mapsOf(marks: readonly PacketMark[]): Map<MarkMap, Elements> {
  const maps = emptyMaps()
  for (const mark of marks) {
    const { map, element } = markElement(mark)
    maps.get(map)?.set(hex(fieldsBytes(element.key)), element)
  }
  return maps
}

/** Elements to delete and to add; one whose mark differs is both. */
function difference(
  known: Elements = new Map(),
  wanted: Elements = new Map(),
): { readonly gone: NftElement[]; readonly come: NftElement[] } {
  const same = (key: string): boolean => dataText(known.get(key)) === dataText(wanted.get(key))
  const gone = [...known].filter(([key]) => !same(key)).map(([, element]) => element)
  const come = [...wanted].filter(([key]) => !same(key)).map(([, element]) => element)
  return { gone, come }
}

function dataText(element: NftElement | undefined): string | undefined {
  const data = element?.data
  return data === undefined || 'verdict' in data ? undefined : hex(fieldsBytes(data))
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex')
}
