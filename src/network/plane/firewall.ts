/**
 * The plane's nftables table in one family: rules once, by `nft`; then only what differs between
 * the kernel's elements and the wanted ones, in one netlink transaction. A daemon that starts again
 * finds its own rules by their hash and reads the elements; rules of another version are replaced
 * together with all elements, so no packet ever meets half a table.
 */
import { setImmediate } from 'node:timers/promises'
import { isNetlinkError } from '../netlink/netlink-error.ts'
import type { NetlinkRequest } from '../netlink/message-writer.ts'
import {
  addElements,
  decodeElements,
  deleteElements,
  dumpElements,
  flushElements,
} from '../netlink/nft-element.ts'
import type { KernelElement, NftElement } from '../netlink/nft-element.ts'
import { fieldsBytes } from '../netlink/nft-field.ts'
import { NFNL_SUBSYS_NFTABLES } from '../netlink/nfnetlink.ts'
import { deleteTable } from '../netlink/nftables.ts'
import type { NftTable } from '../netlink/nftables.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import type { PlaneNames } from './names.ts'
import { PLANE_SETS, elementText, encodeElement } from './plane-elements.ts'
import type {
  PlaneElement,
  PlaneElements,
  PlaneFamily,
  SetName,
  SetType,
} from './plane-elements.ts'
import { runNft } from './run-nft.ts'
import { skeletonOf } from './skeleton.ts'
import type { Skeleton } from './skeleton.ts'

/** Elements of a set by their text. */
type SetModel = ReadonlyMap<string, PlaneElement>

/** What the kernel has. */
type Model = ReadonlyMap<SetName, SetModel>

/** Elements that are compared without a pause: some milliseconds on a small machine. */
const ELEMENTS_AT_A_STRETCH = 500

/** How a kernel says that it has no nf_tables, or not this family of it. */
const NO_SUCH_FAMILY = ['EAFNOSUPPORT', 'EOPNOTSUPP', 'EPROTONOSUPPORT']

const SET_NAMES = Object.keys(PLANE_SETS) as readonly SetName[]

/** Whose table, in which family and namespace. */
export interface FirewallOptions {
  readonly names: PlaneNames
  readonly family: PlaneFamily
  readonly netns?: string
}

/** One table. */
export class Firewall {
  readonly #socket: NetlinkSocket
  readonly #options: FirewallOptions
  readonly #table: NftTable
  readonly #skeleton: Skeleton
  /** What the kernel has; undefined: it must be read. */
  #model: Model | undefined

  /** @param socket of protocol `netfilter`, in the namespace */
  constructor(socket: NetlinkSocket, options: FirewallOptions) {
    this.#socket = socket
    this.#options = options
    this.#table = { family: options.family, name: options.names.table }
    this.#skeleton = skeletonOf(options.names, options.family)
  }

  /** The next `apply` reads the kernel's elements again. */
  forget(): void {
    this.#model = undefined
  }

  /** Makes it so; the number of requests that were needed. @throws NetlinkError, RUNTIME_FAILED */
  async apply(wanted: PlaneElements): Promise<number> {
    const target = modelOf(wanted)
    const known = this.#model
    this.#model = undefined
    const requests = known === undefined ? await this.#compare(wanted) : this.#update(known, target)
    if (requests === undefined) await this.#load(wanted)
    else await this.#socket.transaction(NFNL_SUBSYS_NFTABLES, requests)
    this.#model = target
    return requests?.length ?? 1
  }

  /** Removes the table; whether there was one. @throws NetlinkError */
  async remove(): Promise<boolean> {
    this.#model = undefined
    try {
      await this.#socket.transaction(NFNL_SUBSYS_NFTABLES, [deleteTable(this.#table)])
      return true
    } catch (error) {
      if (isNetlinkError(error, 'ENOENT', ...NO_SUCH_FAMILY)) return false
      throw error
    }
  }

  /** From what is known: only what changed is encoded. */
  #update(known: Model, target: Model): NetlinkRequest[] {
    return SET_NAMES.flatMap((name) => {
      const have = known.get(name) ?? new Map<string, PlaneElement>()
      const want = target.get(name) ?? new Map<string, PlaneElement>()
      const encode = (element: PlaneElement): NftElement[] =>
        encodeElement(PLANE_SETS[name], element)
      return this.#requests(name, {
        surplus: without(have, want).flatMap(encode),
        missing: without(want, have).flatMap(encode),
        all: () => [...want.values()].flatMap(encode),
      })
    })
  }

  /** From what the kernel says; undefined when it has not these rules. */
  async #compare(wanted: PlaneElements): Promise<NetlinkRequest[] | undefined> {
    const requests: NetlinkRequest[] = []
    try {
      await this.#socket.dump(dumpElements({ table: this.#table, set: this.#skeleton.versionSet }))
      for (const name of SET_NAMES) {
        const type = PLANE_SETS[name]
        const messages = await this.#socket.dump(dumpElements({ table: this.#table, set: name }))
        const have = await byBytes(messages, (message) =>
          kernelElements(type, decodeElements(message)),
        )
        const want = await byBytes(wanted[name], (element) => encodeElement(type, element))
        const surplus = without(have, want)
        const missing = without(want, have)
        requests.push(...this.#requests(name, { surplus, missing, all: () => [...want.values()] }))
      }
    } catch (error) {
      if (isNetlinkError(error, 'ENOENT')) return undefined
      throw error
    }
    return requests
  }

  async #load(wanted: PlaneElements): Promise<void> {
    const { netns } = this.#options
    const script = this.#skeleton.script((set) => wanted[set].map(elementText).join(', '))
    await runNft(script, netns === undefined ? {} : { netns })
  }

  #requests(
    name: SetName,
    change: {
      readonly surplus: readonly NftElement[]
      readonly missing: readonly NftElement[]
      readonly all: () => readonly NftElement[]
    },
  ): NetlinkRequest[] {
    const { surplus, missing, all } = change
    const set = { table: this.#table, set: name }
    const type: SetType = PLANE_SETS[name]
    if (type.isInterval !== true) {
      return [...deleteElements(set, surplus), ...addElements(set, missing)]
    }
    // Both ends of a range must change together; these sets are small.
    if (surplus.length === 0 && missing.length === 0) return []
    return [flushElements(set), ...addElements(set, all())]
  }
}

function modelOf(wanted: PlaneElements): Model {
  return new Map(
    SET_NAMES.map((name): [SetName, SetModel] => {
      return [name, new Map(wanted[name].map((element) => [elementText(element), element]))]
    }),
  )
}

/** Values of `left` whose keys `right` has not. */
function without<T>(left: ReadonlyMap<string, T>, right: ReadonlyMap<string, unknown>): T[] {
  return [...left].filter(([id]) => !right.has(id)).map(([, value]) => value)
}

function kernelElements(type: SetType, elements: readonly KernelElement[]): NftElement[] {
  return elements
    .filter(({ key, isIntervalEnd }) => {
      // nft itself closes what is below the first range.
      return !(type.isInterval === true && isIntervalEnd && key.every((byte) => byte === 0))
    })
    .map(({ key, isIntervalEnd, data }) => ({
      key: [key],
      ...(isIntervalEnd ? { isIntervalEnd } : {}),
      ...(data === undefined ? {} : { data: [data] }),
    }))
}

/** Elements by their bytes. Sets are large, so that everything else gets its turn in between. */
async function byBytes<T>(
  parts: readonly T[],
  elementsOf: (part: T) => readonly NftElement[],
): Promise<Map<string, NftElement>> {
  const found = new Map<string, NftElement>()
  let untilPause = ELEMENTS_AT_A_STRETCH
  for (const part of parts) {
    for (const element of elementsOf(part)) {
      found.set(bytesText(element), element)
      untilPause -= 1
    }
    if (untilPause > 0) continue
    untilPause = ELEMENTS_AT_A_STRETCH
    await setImmediate()
  }
  return found
}

/** Key, value and kind of an element. */
function bytesText({ key, data, isIntervalEnd }: NftElement): string {
  const value = data === undefined || 'verdict' in data ? '' : hex(data)
  return `${hex(key)}:${isIntervalEnd === true ? 'end' : ''}:${value}`
}

function hex(fields: readonly Uint8Array[]): string {
  return Buffer.from(fieldsBytes(fields)).toString('hex')
}
