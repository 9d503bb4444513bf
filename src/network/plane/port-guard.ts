/**
 * What a task may send into the bridge, by the port it sends on: frames from its own MAC, and in
 * them IPv4, IPv6, ARP and neighbour discovery from its own addresses. Nothing else enters: no
 * other protocol, no tag in front of one. A task with raw sockets cannot speak for another one,
 * nor have another one's packets sent to itself, although MACs and addresses are no secrets.
 *
 * It stands before the bridge looks at a frame, so nothing is learned from a forgery. In nftables'
 * family `bridge`, by port names: a kernel needs no more than that family. Where it is missing,
 * bridge ports learn nothing all the same (`task-links.ts`), so answers cannot be drawn away; only
 * a packet in the name of a neighbour on the same bridge then passes.
 *
 * What answers a question about an address that nobody has is not looked at here: this node does
 * not ask on its bridge (`settings.ts`), and knows its tasks without.
 */
import { isNetlinkError } from '../netlink/netlink-error.ts'
import type { NetlinkRequest } from '../netlink/message-writer.ts'
import { addElements, deleteElements, dumpElements } from '../netlink/nft-element.ts'
import { readElements } from '../netlink/nft-element-reader.ts'
import type { NftElement } from '../netlink/nft-element.ts'
import { fieldsBytes } from '../netlink/nft-field.ts'
import { NFNL_SUBSYS_NFTABLES } from '../netlink/nfnetlink.ts'
import { deleteTable } from '../netlink/nftables.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { ipv6Of } from '../../store/ipv6.ts'
import { vethName } from './names.ts'
import type { PlaneNames } from './names.ts'
import { elementText, encodeElement } from './plane-elements.ts'
import type { PlaneElement, SetType } from './plane-elements.ts'
import { runNft } from './run-nft.ts'
import { skeletonFrom } from './skeleton.ts'
import type { Skeleton } from './skeleton.ts'
import type { WantedPlane } from './wanted-plane.ts'

const GUARD_SETS = {
  /** Ports of tasks. */
  ports: { key: ['ifname'] },
  macs: { key: ['ifname', 'ether_addr'] },
  senders: { key: ['ifname', 'ether_addr', 'ipv4_addr'] },
  senders6: { key: ['ifname', 'ether_addr', 'ipv6_addr'] },
} as const satisfies Readonly<Record<string, SetType>>

type GuardSet = keyof typeof GUARD_SETS

const SET_NAMES = Object.keys(GUARD_SETS) as readonly GuardSet[]

/** How a kernel says that it has no nf_tables, or not this family of it. */
const NO_SUCH_FAMILY = ['EAFNOSUPPORT', 'EOPNOTSUPP', 'EPROTONOSUPPORT']

/** What the guard depends on. */
type Guarded = Pick<WantedPlane, 'tasks' | 'ipv6Prefix'>

/** The address of who has none yet asks whether it is free. */
const CHAINS = `  chain questions {
    iifname . ether saddr . arp saddr ip != @senders drop
    iifname . arp saddr ether . arp saddr ip @senders accept
    drop
  }
  chain packets6 {
    iifname . ether saddr . ip6 saddr @senders6 accept
    ip6 saddr :: icmpv6 type nd-neighbor-solicit accept
    drop
  }
  chain from_task {
    iifname . ether saddr != @macs drop
    ether type arp goto questions
    ether type ip6 goto packets6
    ether type ip iifname . ether saddr . ip saddr @senders accept
    drop
  }
  chain guard {
    type filter hook prerouting priority filter; policy accept;
    iifname @ports goto from_task
  }`

/** Whose guard, and where. */
export interface GuardOptions {
  readonly names: PlaneNames
  /** Path of the network namespace; without one this process's. */
  readonly netns?: string
}

/** The guard of a node's bridge. */
export class PortGuard {
  readonly #socket: NetlinkSocket
  readonly #options: GuardOptions
  readonly #skeleton: Skeleton<GuardSet>
  /** What the kernel has, and from what; undefined: it must be read. */
  #known: { readonly guarded: Guarded; readonly elements: Encoded } | undefined

  /** @param socket of protocol `netfilter`, in the namespace */
  constructor(socket: NetlinkSocket, options: GuardOptions) {
    this.#socket = socket
    this.#options = options
    this.#skeleton = guardSkeleton(options.names)
  }

  /** The next `apply` reads the kernel's elements again. */
  forget(): void {
    this.#known = undefined
  }

  /** Makes it so; the number of requests that were needed. @throws NetlinkError, RUNTIME_FAILED */
  async apply(wanted: Guarded): Promise<number> {
    const known = this.#known
    const isSame =
      known?.guarded.tasks === wanted.tasks && known.guarded.ipv6Prefix === wanted.ipv6Prefix
    if (isSame) return 0
    this.#known = undefined
    const elements = encoded(guardElements(wanted))
    const have = known?.elements ?? (await this.#read())
    const requests = have === undefined ? undefined : this.#difference(have, elements)
    if (requests === undefined) await this.#load(wanted)
    else await this.#socket.transaction(NFNL_SUBSYS_NFTABLES, requests)
    this.#known = { guarded: wanted, elements }
    return requests?.length ?? 1
  }

  /** Removes the table; whether there was one. @throws NetlinkError */
  async remove(): Promise<boolean> {
    this.#known = undefined
    try {
      const request = deleteTable(this.#skeleton.table)
      await this.#socket.transaction(NFNL_SUBSYS_NFTABLES, [request])
      return true
    } catch (error) {
      if (isNetlinkError(error, 'ENOENT', ...NO_SUCH_FAMILY)) return false
      throw error
    }
  }

  /** The kernel's elements; undefined when it has not these rules. */
  async #read(): Promise<Encoded | undefined> {
    const { table, versionSet } = this.#skeleton
    try {
      await this.#socket.dump(dumpElements({ table, set: versionSet }))
      const found = new Map<GuardSet, ReadonlyMap<string, NftElement>>()
      for (const set of SET_NAMES) {
        const elements = await readElements(this.#socket, { table, set })
        found.set(set, byBytes(elements.map(({ key }) => ({ key: [key] }))))
      }
      return found
    } catch (error) {
      if (isNetlinkError(error, 'ENOENT')) return undefined
      throw error
    }
  }

  #difference(have: Encoded, want: Encoded): NetlinkRequest[] {
    const { table } = this.#skeleton
    return SET_NAMES.flatMap((set) => {
      const [old, next] = [have.get(set), want.get(set)]
      const without = (from: typeof old, what: typeof old): NftElement[] =>
        [...(from ?? [])].filter(([text]) => what?.has(text) !== true).map(([, one]) => one)
      return [
        ...deleteElements({ table, set }, without(old, next)),
        ...addElements({ table, set }, without(next, old)),
      ]
    })
  }

  async #load(wanted: Guarded): Promise<void> {
    const { netns } = this.#options
    const elements = guardElements(wanted)
    const script = this.#skeleton.script((set) => elements[set].map(elementText).join(', '))
    await runNft(script, netns === undefined ? {} : { netns })
  }
}

/** Elements of the sets by their bytes. */
type Encoded = ReadonlyMap<GuardSet, ReadonlyMap<string, NftElement>>

function encoded(elements: ReturnType<typeof guardElements>): Encoded {
  return new Map(
    SET_NAMES.map((set) => {
      const type = GUARD_SETS[set]
      return [set, byBytes(elements[set].flatMap((element) => encodeElement(type, element)))]
    }),
  )
}

function byBytes(elements: readonly NftElement[]): ReadonlyMap<string, NftElement> {
  return new Map(
    elements.map((element) => [Buffer.from(fieldsBytes(element.key)).toString('hex'), element]),
  )
}

/** The rules of a node's guard. */
export function guardSkeleton(names: PlaneNames): Skeleton<GuardSet> {
  return skeletonFrom({ family: 'bridge', name: names.table }, { sets: GUARD_SETS, chains: CHAINS })
}

/** Who may send what where. */
function guardElements(wanted: Guarded): Readonly<Record<GuardSet, readonly PlaneElement[]>> {
  const { tasks, ipv6Prefix } = wanted
  const ports = tasks.map(({ id, address, macAddress }) => ({
    name: vethName(id),
    address,
    macAddress,
  }))
  return {
    ports: ports.map(({ name }) => ({ key: [name] })),
    macs: ports.map(({ name, macAddress }) => ({ key: [name, macAddress] })),
    senders: ports.map(({ name, macAddress, address }) => ({ key: [name, macAddress, address] })),
    senders6: ports.flatMap(({ name, macAddress, address }) =>
      ipv6Prefix === undefined ? [] : [{ key: [name, macAddress, ipv6Of(ipv6Prefix, address)] }],
    ),
  }
}
