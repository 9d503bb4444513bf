/**
 * The elements of the plane's nftables sets and maps, derived from the wanted plane, in both
 * families; and an element as text (for `nft`) and as bytes (for netlink). Pure.
 */
import { createHash } from 'node:crypto'
import { at } from '../../base/assert.ts'
import type { NftElement } from '../netlink/nft-element.ts'
import { addressField, macField, numberField } from '../netlink/nft-field.ts'
import { ipv4Text, ipv6Of, parseRange } from './names.ts'
import type { PlaneTask, WantedPlane } from './wanted-plane.ts'

/** A family that the plane speaks. */
export type PlaneFamily = 'ipv4' | 'ipv6'

/** Type of a field: `address` is the family's. */
export type FieldName = 'address' | 'ether_addr' | 'mark'

/** Shape of a set, or with `data` a map. */
export interface SetType {
  readonly key: readonly FieldName[]
  readonly data?: FieldName
  /** Keys are ranges of addresses, `first-last`. */
  readonly isInterval?: true
}

/** All sets and maps, as the rules name them. */
export const PLANE_SETS = {
  /** Ranges of virtual addresses. */
  virtual: { key: ['address'], isInterval: true },
  /** All ranges that are the cluster's own. */
  inside: { key: ['address'], isInterval: true },
  /** This node's subnet. */
  subnet: { key: ['address'], isInterval: true },
  /** Where this node's resolver answers. */
  gateways: { key: ['address'] },
  /** Who may send on the bridge. */
  sources: { key: ['address', 'ether_addr'] },
  /** Task → profile. */
  profiles: { key: ['address'], data: 'mark' },
  /** Profile and who is reached with it. */
  members: { key: ['mark', 'address'] },
  /** Tasks that reach nothing outside. */
  insiders: { key: ['address'] },
  /** Each task twice: who reaches itself through a balancer must be masqueraded. */
  selves: { key: ['address', 'address'] },
  /** MAC of a peer node → its mark. */
  peers: { key: ['ether_addr'], data: 'mark' },
  /** Underlay addresses of peer nodes: what they ask through this node is masqueraded. */
  nodes: { key: ['address'] },
} as const satisfies Readonly<Record<string, SetType>>

/** The name of a set or map. */
export type SetName = keyof typeof PLANE_SETS

/** An element: the fields as text; of an interval `first-last`. */
export interface PlaneElement {
  readonly key: readonly string[]
  readonly data?: string
}

/** All elements that the sets of a family should have. */
export type PlaneElements = Readonly<Record<SetName, readonly PlaneElement[]>>

/** The elements of the wanted plane. */
export function planeElements(wanted: WantedPlane, family: PlaneFamily): PlaneElements {
  const { tasks, ipv6Prefix } = wanted
  const address = (ipv4: string): string =>
    family === 'ipv4' || ipv6Prefix === undefined ? ipv4 : ipv6Of(ipv6Prefix, ipv4)
  const ranges = (texts: readonly string[]): PlaneElement[] =>
    mergedRanges(texts).map(({ first, last }) => ({
      key: [`${address(ipv4Text(first))}-${address(ipv4Text(last))}`],
    }))
  const profiles = profilesOf(tasks)
  return {
    virtual: ranges(wanted.virtualRanges),
    inside: ranges(wanted.insideRanges),
    subnet: ranges([wanted.subnet]),
    gateways: [{ key: [address(wanted.gateway)] }],
    sources: tasks.map((task) => ({ key: [address(task.address), task.macAddress] })),
    profiles: tasks.flatMap((task) => {
      const profile = profiles.get(profileKey(task))
      return profile === undefined ? [] : [{ key: [address(task.address)], data: String(profile) }]
    }),
    members: membersOf(wanted, { family, profiles, address }),
    insiders: tasks
      .filter((task) => !task.outside)
      .map((task) => ({ key: [address(task.address)] })),
    selves: tasks.map((task) => ({ key: [address(task.address), address(task.address)] })),
    peers: wanted.peers.map((peer) => ({ key: [peer.macAddress], data: String(peer.mark) })),
    nodes: family === 'ipv4' ? wanted.peers.map((peer) => ({ key: [peer.underlayAddress] })) : [],
  }
}

/** The element as nft writes it. */
export function elementText(element: PlaneElement): string {
  const key = element.key.join(' . ')
  return element.data === undefined ? key : `${key} : ${element.data}`
}

/** The element as netlink has it: two of a range, its first address and the one after its last. */
export function encodeElement(type: SetType, element: PlaneElement): NftElement[] {
  if (type.isInterval === true) return encodeRange(at(element.key, 0))
  const key = type.key.map((field, index) => encodeField(field, at(element.key, index)))
  if (type.data === undefined || element.data === undefined) return [{ key }]
  return [{ key, data: [encodeField(type.data, element.data)] }]
}

function encodeRange(text: string): NftElement[] {
  const [first = '', last = ''] = text.split('-')
  const end = successor(addressField(last))
  const start = { key: [addressField(first)] }
  return end === undefined ? [start] : [start, { key: [end], isIntervalEnd: true }]
}

/** The next number of as many bytes; undefined after the last. */
function successor(bytes: Uint8Array): Uint8Array | undefined {
  const next = Uint8Array.from(bytes)
  for (let index = next.length - 1; index >= 0; index -= 1) {
    const byte = ((next[index] ?? 0) + 1) & 0xff
    next[index] = byte
    if (byte !== 0) return next
  }
  return undefined
}

function encodeField(field: FieldName, text: string): Uint8Array {
  switch (field) {
    case 'address':
      return addressField(text)
    case 'ether_addr':
      return macField(text)
    case 'mark':
      return numberField(Number(text))
    default:
      return field satisfies never
  }
}

/** Ranges without overlaps, in order: a set refuses them. */
function mergedRanges(texts: readonly string[]): { first: number; last: number }[] {
  const merged: { first: number; last: number }[] = []
  const sorted = texts.map(parseRange).toSorted((a, b) => a.base - b.base)
  for (const { base, last } of sorted) {
    const before = merged.at(-1)
    if (before !== undefined && base <= before.last + 1) before.last = Math.max(before.last, last)
    else merged.push({ first: base, last })
  }
  return merged
}

/** Networks of a task as one text; equal ones share a profile. */
function profileKey(task: PlaneTask): string {
  return task.networkIds.join(' ')
}

/**
 * A number for each combination of networks on this node. It derives from the networks, so that a
 * daemon that starts again finds its own; when two meet, the next is free.
 */
function profilesOf(tasks: readonly PlaneTask[]): ReadonlyMap<string, number> {
  const keys = new Set(tasks.filter((task) => task.networkIds.length > 0).map(profileKey))
  const numbers = new Map<string, number>()
  const taken = new Set<number>([0])
  for (const key of [...keys].toSorted()) {
    let number = createHash('sha256').update(key).digest().readUInt32BE(0)
    while (taken.has(number)) number = (number + 1) % 2 ** 32
    taken.add(number)
    numbers.set(key, number)
  }
  return numbers
}

function membersOf(
  { tasks, networks }: WantedPlane,
  about: {
    readonly family: PlaneFamily
    readonly profiles: ReadonlyMap<string, number>
    readonly address: (ipv4: string) => string
  },
): PlaneElement[] {
  const byId = new Map(networks.map((network) => [network.id, network]))
  const elements: PlaneElement[] = []
  const done = new Set<string>()
  for (const task of tasks) {
    const key = profileKey(task)
    const profile = about.profiles.get(key)
    if (profile === undefined || done.has(key)) continue
    done.add(key)
    const reached = task.networkIds.flatMap((id) => {
      const network = byId.get(id)
      return network === undefined || (about.family === 'ipv6' && !network.hasIpv6)
        ? []
        : network.members
    })
    for (const member of new Set(reached)) {
      elements.push({ key: [String(profile), about.address(member)] })
    }
  }
  return elements
}
