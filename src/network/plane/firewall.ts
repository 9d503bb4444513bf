/**
 * The plane's nftables table in one family: rules once, by `nft`; then only what differs between
 * the kernel's elements and the wanted ones, in one netlink transaction. A daemon that starts again
 * finds its own rules by their hash and reads the elements; rules of another version are replaced
 * together with all elements, so no packet ever meets half a table.
 */
import { isNetlinkError } from '../netlink/netlink-error.ts'
import type { NetlinkRequest } from '../netlink/message-writer.ts'
import { addElements, deleteElements, dumpElements, flushElements } from '../netlink/nft-element.ts'
import { readElements } from '../netlink/nft-element-reader.ts'
import type { KernelElement, NftElement } from '../netlink/nft-element.ts'
import { fieldsBytes } from '../netlink/nft-field.ts'
import { NFNL_SUBSYS_NFTABLES } from '../netlink/nfnetlink.ts'
import { deleteTable } from '../netlink/nftables.ts'
import type { NftTable } from '../netlink/nftables.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import type { PlaneNames } from './names.ts'
import { StepSlices } from '../time-slices.ts'
import type { TouchedMembers } from './plane-derivation.ts'
import {
  PLANE_SETS,
  elementText,
  encodeElement,
  memberElements,
  planeElements,
  reachText,
  touchedElements,
} from './plane-elements.ts'
import type { PlaneElement, PlaneFamily, SetName, SetType, SmallSet } from './plane-elements.ts'
import { runNft } from './run-nft.ts'
import { skeletonOf } from './skeleton.ts'
import type { Skeleton } from './skeleton.ts'
import type { WantedPlane } from './wanted-plane.ts'

/** Elements of a set by their text. */
type SetModel = ReadonlyMap<string, PlaneElement>

/** What the kernel has. */
interface Model {
  readonly small: ReadonlyMap<SmallSet, SetModel>
  readonly members: Map<string, PlaneElement>
  /** What `members` depended on; see `reachText`. */
  readonly reach: string
  /** What it was made from. */
  readonly wanted: WantedPlane
}

/** What must go from a set, and what must come. */
interface SetChange<T> {
  readonly surplus: readonly T[]
  readonly missing: readonly T[]
}

/** Elements that are compared or encoded without a pause: a millisecond or two. */
const ELEMENTS_AT_A_STRETCH = 150

/** How a kernel says that it has no nf_tables, or not this family of it. */
const NO_SUCH_FAMILY = ['EAFNOSUPPORT', 'EOPNOTSUPP', 'EPROTONOSUPPORT']

const SET_NAMES = Object.keys(PLANE_SETS) as readonly SetName[]
const SMALL_SETS = SET_NAMES.filter((name): name is SmallSet => name !== 'members')

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
  readonly #slices = new StepSlices(ELEMENTS_AT_A_STRETCH)
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

  /**
   * Makes it so; the number of requests that were needed. With `touched` no other member may differ
   * from the last time. @throws NetlinkError, RUNTIME_FAILED
   */
  async apply(wanted: WantedPlane, touched?: TouchedMembers): Promise<number> {
    const known = this.#model
    this.#model = undefined
    const reach = reachText(wanted, this.#options.family)
    if (known !== undefined && touched !== undefined && known.reach === reach) {
      return this.#change(known, wanted, touched)
    }
    const target = await this.#target(wanted, reach)
    const requests =
      known === undefined ? await this.#compare(target) : await this.#update(known, target)
    if (requests === undefined) await this.#load(target)
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

  /** Changes the members that were touched, and what else differs. */
  async #change(known: Model, wanted: WantedPlane, touched: TouchedMembers): Promise<number> {
    const small = this.#smallOf(wanted, known)
    const { members } = known
    const candidates = touchedElements(wanted, this.#options.family, touched).map((one) => {
      const text = elementText(one.element)
      return { ...one, text, isThere: members.has(text) }
    })
    const surplus = candidates.filter(({ isWanted, isThere }) => isThere && !isWanted)
    const missing = candidates.filter(({ isWanted, isThere }) => isWanted && !isThere)
    const elementsOf = (list: typeof candidates): PlaneElement[] =>
      list.map(({ element }) => element)
    const requests = [
      ...(await this.#smallRequests(known.small, small)),
      ...(await this.#encoded('members', {
        surplus: elementsOf(surplus),
        missing: elementsOf(missing),
      })),
    ]
    await this.#socket.transaction(NFNL_SUBSYS_NFTABLES, requests)
    for (const { text } of surplus) members.delete(text)
    for (const { text, element } of missing) members.set(text, element)
    this.#model = { ...known, small, wanted }
    return requests.length
  }

  async #target(wanted: WantedPlane, reach: string): Promise<Model> {
    const members = new Map<string, PlaneElement>()
    for (const element of memberElements(wanted, this.#options.family)) {
      members.set(elementText(element), element)
      await this.#slices.maybeYield()
    }
    return { small: this.#smallOf(wanted), members, reach, wanted }
  }

  /** The small sets' elements; those known where nothing changed that they depend on. */
  #smallOf(wanted: WantedPlane, known?: Model): Model['small'] {
    if (known !== undefined && isSameBut(known.wanted, wanted)) return known.small
    const elements = planeElements(wanted, this.#options.family)
    return new Map(SMALL_SETS.map((name) => [name, setModelOf(elements[name])]))
  }

  /** From what is known: only what changed is encoded. */
  async #update(known: Model, target: Model): Promise<NetlinkRequest[]> {
    const change = {
      surplus: without(known.members, target.members),
      missing: without(target.members, known.members),
    }
    return [
      ...(await this.#smallRequests(known.small, target.small)),
      ...(await this.#encoded('members', change)),
    ]
  }

  async #smallRequests(known: Model['small'], target: Model['small']): Promise<NetlinkRequest[]> {
    if (known === target) return []
    const requests: NetlinkRequest[] = []
    for (const name of SMALL_SETS) {
      const [have, want] = [known.get(name), target.get(name)]
      if (have === undefined || want === undefined) continue
      const change = { surplus: without(have, want), missing: without(want, have) }
      requests.push(...(await this.#encoded(name, change, [...want.values()])))
    }
    return requests
  }

  /** From what the kernel says; undefined when it has not these rules. */
  async #compare(target: Model): Promise<NetlinkRequest[] | undefined> {
    const requests: NetlinkRequest[] = []
    try {
      await this.#socket.dump(dumpElements({ table: this.#table, set: this.#skeleton.versionSet }))
      for (const name of SET_NAMES) {
        const type = PLANE_SETS[name]
        const read = await readElements(this.#socket, { table: this.#table, set: name })
        const have = await this.#byBytes(kernelElements(type, read), (element) => [element])
        const elements = name === 'members' ? target.members : target.small.get(name)
        const want = await this.#byBytes(elements?.values() ?? [], (element) =>
          encodeElement(type, element),
        )
        const change = { surplus: without(have, want), missing: without(want, have) }
        requests.push(...this.#requests(name, change, [...want.values()]))
      }
    } catch (error) {
      if (isNetlinkError(error, 'ENOENT')) return undefined
      throw error
    }
    return requests
  }

  async #load({ small, members }: Model): Promise<void> {
    const { netns } = this.#options
    const script = this.#skeleton.script((set) => {
      const elements = set === 'members' ? members : small.get(set)
      return [...(elements?.keys() ?? [])].join(', ')
    })
    await runNft(script, netns === undefined ? {} : { netns })
  }

  async #encoded(
    name: SetName,
    { surplus, missing }: SetChange<PlaneElement>,
    all: readonly PlaneElement[] = [],
  ): Promise<NetlinkRequest[]> {
    if (surplus.length + missing.length === 0) return []
    const encode = async (elements: readonly PlaneElement[]): Promise<NftElement[]> => {
      const encoded: NftElement[] = []
      for (const element of elements) {
        encoded.push(...encodeElement(PLANE_SETS[name], element))
        await this.#slices.maybeYield()
      }
      return encoded
    }
    const change = { surplus: await encode(surplus), missing: await encode(missing) }
    const type: SetType = PLANE_SETS[name]
    return this.#requests(name, change, type.isInterval === true ? await encode(all) : [])
  }

  /** @param all the wanted elements, of a set of ranges */
  #requests(
    name: SetName,
    { surplus, missing }: SetChange<NftElement>,
    all: readonly NftElement[],
  ): NetlinkRequest[] {
    const set = { table: this.#table, set: name }
    const type: SetType = PLANE_SETS[name]
    if (type.isInterval !== true) {
      return [...deleteElements(set, surplus), ...addElements(set, missing)]
    }
    // Both ends of a range must change together; these sets are small.
    if (surplus.length === 0 && missing.length === 0) return []
    return [flushElements(set), ...addElements(set, all)]
  }

  /** Elements by their bytes. Sets are large, so that everything else gets its turn in between. */
  async #byBytes<T>(
    parts: Iterable<T>,
    elementsOf: (part: T) => readonly NftElement[],
  ): Promise<Map<string, NftElement>> {
    const found = new Map<string, NftElement>()
    for (const part of parts) {
      for (const element of elementsOf(part)) {
        found.set(bytesText(element), element)
        await this.#slices.maybeYield()
      }
    }
    return found
  }
}

/** Whether all but members is the same. */
function isSameBut(a: WantedPlane, b: WantedPlane): boolean {
  return (
    a.tasks === b.tasks &&
    a.peers === b.peers &&
    a.virtualRanges === b.virtualRanges &&
    a.insideRanges === b.insideRanges &&
    a.subnet === b.subnet &&
    a.ipv6Prefix === b.ipv6Prefix
  )
}

function setModelOf(elements: readonly PlaneElement[]): SetModel {
  return new Map(elements.map((element) => [elementText(element), element]))
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

/** Key, value and kind of an element. */
function bytesText({ key, data, isIntervalEnd }: NftElement): string {
  const value = data === undefined || 'verdict' in data ? '' : hex(data)
  return `${hex(key)}:${isIntervalEnd === true ? 'end' : ''}:${value}`
}

function hex(fields: readonly Uint8Array[]): string {
  return Buffer.from(fieldsBytes(fields)).toString('hex')
}
