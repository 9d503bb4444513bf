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
import { addElements, deleteElements } from '../netlink/nft-element.ts'
import { readElements } from '../netlink/nft-element-reader.ts'
import type { NftElement } from '../netlink/nft-element.ts'
import { fieldsBytes } from '../netlink/nft-field.ts'
import { decodeGeneration, deleteTable, getGeneration } from '../netlink/nftables.ts'
import type { NftTable } from '../netlink/nftables.ts'
import { NetlinkSocket } from '../netlink/socket.ts'
import { MARK_MAPS, markElement, markScript } from './mark-rules.ts'
import type { MarkMap } from './mark-rules.ts'
import { runNft } from './nft-script.ts'
import type { MarkChange, PacketMarks } from './packet-marks.ts'
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
type Maps = Readonly<Record<MarkMap, Elements>>
/** Keys that may differ. */
type Touched = ReadonlyMap<MarkMap, ReadonlySet<string>>

/** Marks packets with nftables. */
export class NftMarks implements PacketMarks {
  readonly #socket: NetlinkSocket
  readonly #table: NftTable
  readonly #netns: string | undefined
  /** What the maps hold; undefined = to be read. */
  #known: Maps | undefined
  /** The ruleset's generation when `#known` was read or written last. */
  #generation = 0
  #wanted: Maps = emptyMaps()

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
    await this.#bring()
  }

  async change({ given, taken }: MarkChange): Promise<void> {
    const [come, gone] = [mapsOf(given), mapsOf(taken)]
    const touched = new Map<MarkMap, Set<string>>()
    for (const map of MARK_MAPS) {
      const [fresh, old, wanted] = [come[map], gone[map], this.#wanted[map]]
      for (const key of old.keys()) wanted.delete(key)
      for (const [key, element] of fresh) wanted.set(key, element)
      touched.set(map, new Set([...old.keys(), ...fresh.keys()]))
    }
    await this.#bring(touched)
  }

  async check(): Promise<boolean> {
    if (this.#known !== undefined && (await this.#readGeneration()) === this.#generation) {
      return false
    }
    return (await this.#write(await this.#adopt())) > 0
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

  /** Writes what differs, once more after a look when what was believed was wrong. */
  async #bring(touched?: Touched): Promise<void> {
    const known = this.#known
    try {
      await this.#write(known ?? (await this.#adopt()), known && touched)
    } catch (error) {
      if (known === undefined || !isNetlinkError(error)) throw error
      await this.#write(await this.#adopt())
    }
  }

  /** Loads the rules and reads the elements. */
  async #adopt(): Promise<Maps> {
    await runNft(markScript(this.#table), this.#netns)
    this.#generation = await this.#readGeneration()
    const known = emptyMaps()
    for (const map of MARK_MAPS) {
      const elements = await readElements(this.#socket, { table: this.#table, set: map })
      for (const { key, data } of elements) {
        known[map].set(hex(key), { key: [key], data: [data ?? new Uint8Array()] })
      }
    }
    return known
  }

  /** Makes the elements those wanted, all or those of `touched`; how many differed. */
  async #write(known: Maps, touched?: Touched): Promise<number> {
    this.#known = undefined
    const requests: NetlinkRequest[] = []
    let changes = 0
    for (const map of MARK_MAPS) {
      const set = { table: this.#table, set: map }
      const { gone, come } = difference(known[map], this.#wanted[map], touched?.get(map))
      changes += gone.length + come.length
      if (gone.length > 0)
        requests.push(
          ...deleteElements(
            set,
            gone.map(([, one]) => one),
          ),
        )
      if (come.length > 0)
        requests.push(
          ...addElements(
            set,
            come.map(([, one]) => one),
          ),
        )
      for (const [key] of gone) known[map].delete(key)
      for (const [key, element] of come) known[map].set(key, element)
    }
    if (requests.length > 0) {
      await this.#socket.transaction(NFNL_SUBSYS_NFTABLES, requests)
      this.#generation = await this.#readGeneration()
    }
    this.#known = known
    return changes
  }

  async #readGeneration(): Promise<number> {
    const [message] = await this.#socket.request(getGeneration())
    return message === undefined ? 0 : decodeGeneration(message)
  }
}

function emptyMaps(): Maps {
  return { vips: new Map(), vips6: new Map(), ports: new Map(), ports6: new Map() }
}

function mapsOf(marks: readonly PacketMark[]): Maps {
  const maps = emptyMaps()
  for (const mark of marks) {
    const { map, element } = markElement(mark)
    maps[map].set(hex(fieldsBytes(element.key)), element)
  }
  return maps
}

/** Elements to delete and to add, of some keys or all; one whose mark differs is both. */
function difference(
  known: Elements,
  wanted: Elements,
  touched: ReadonlySet<string> = new Set([...known.keys(), ...wanted.keys()]),
): Readonly<Record<'gone' | 'come', [string, NftElement][]>> {
  const keys = [...touched].filter((key) => dataText(known.get(key)) !== dataText(wanted.get(key)))
  const of = (elements: Elements): [string, NftElement][] =>
    keys.flatMap((key) => {
      const element = elements.get(key)
      return element === undefined ? [] : [[key, element]]
    })
  return { gone: of(known), come: of(wanted) }
}

function dataText(element: NftElement | undefined): string | undefined {
  const data = element?.data
  return data === undefined || 'verdict' in data ? undefined : hex(fieldsBytes(data))
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex')
}
