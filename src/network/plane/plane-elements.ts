/**
 * The elements of the plane's nftables sets and maps, derived from the wanted plane, in both
 * families; and an element as text (for `nft`) and as bytes (for netlink). Pure.
 */
import { createHash } from 'node:crypto'
import { isIPv6 } from 'node:net'
import { at } from '../../base/assert.ts'
import type { NftElement } from '../netlink/nft-element.ts'
import { addressField, interfaceField, macField, numberField } from '../netlink/nft-field.ts'
import { ipv6Of } from '../../store/ipv6.ts'
import { ipv4Text, parseRange } from './names.ts'
import type { PlaneNetwork, PlaneTask, WantedPlane } from './wanted-plane.ts'

/** A family that the plane speaks. */
export type PlaneFamily = 'ipv4' | 'ipv6'

/** Type of a field: `address` is the family's. */
export type FieldName = 'address' | 'ether_addr' | 'mark' | 'ifname' | 'ipv4_addr' | 'ipv6_addr'

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
  /** Addresses of peer nodes: what they ask through this node is masqueraded. */
  nodes: { key: ['address'] },
} as const satisfies Readonly<Record<string, SetType>>

/** The name of a set or map. */
export type SetName = keyof typeof PLANE_SETS

/** An element: the fields as text; of an interval `first-last`. */
export interface PlaneElement {
  readonly key: readonly string[]
  readonly data?: string
}

/** Sets as large as this node's tasks or the nodes; `members` grows with everything. */
export type SmallSet = Exclude<SetName, 'members'>

/** All elements that the small sets of a family should have. */
export type PlaneElements = Readonly<Record<SmallSet, readonly PlaneElement[]>>

/** The elements of the wanted plane, but for `members`. */
export function planeElements(wanted: WantedPlane, family: PlaneFamily): PlaneElements {
  const { tasks } = wanted
  const address = addressIn(wanted, family)
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
    insiders: tasks
      .filter((task) => !task.outside)
      .map((task) => ({ key: [address(task.address)] })),
    selves: tasks.map((task) => ({ key: [address(task.address), address(task.address)] })),
    peers: wanted.peers.map((peer) => ({ key: [peer.macAddress], data: String(peer.mark) })),
    nodes: peerAddresses(wanted, family).map((one) => ({ key: [one] })),
  }
}

/** Addresses of other nodes in the family, each once: two hosts may have the same private one. */
function peerAddresses({ peers }: WantedPlane, family: PlaneFamily): readonly string[] {
  const all = peers.flatMap(({ addresses }) => addresses)
  return [...new Set(all)].filter((one) => isIPv6(one) === (family === 'ipv6'))
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
    case 'ipv4_addr':
    case 'ipv6_addr':
      return addressField(text)
    case 'ifname':
      return interfaceField(text)
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

/** Who is reached with a profile. */
interface Reach {
  readonly profile: string
  readonly networks: readonly PlaneNetwork[]
}

function reachesOf({ tasks, networks }: WantedPlane, family: PlaneFamily): Reach[] {
  const byId = new Map(networks.map((network) => [network.id, network]))
  const byKey = new Map(tasks.map((task) => [profileKey(task), task.networkIds]))
  return [...profilesOf(tasks)].map(([key, profile]) => ({
    profile: String(profile),
    networks: (byKey.get(key) ?? []).flatMap((id) => {
      const network = byId.get(id)
      return network === undefined || (family === 'ipv6' && !network.hasIpv6) ? [] : [network]
    }),
  }))
}

/** What the set `members` depends on beside who is a member: equal texts, equal dependence. */
export function reachText(wanted: WantedPlane, family: PlaneFamily): string {
  const reaches = reachesOf(wanted, family)
  return reaches
    .map(({ profile, networks }) => [profile, ...networks.map(({ id }) => id)].join(' '))
    .join('\n')
}

/**
 * The elements of `members`.
 *
 * @yields each once
 */
export function* memberElements(wanted: WantedPlane, family: PlaneFamily): Generator<PlaneElement> {
  const address = addressIn(wanted, family)
  for (const { profile, networks } of reachesOf(wanted, family)) {
    const [first, ...others] = networks
    const seen = others.length === 0 ? undefined : new Set<string>()
    for (const network of first === undefined ? [] : [first, ...others]) {
      for (const member of network.members) {
        if (seen?.has(member) === true) continue
        seen?.add(member)
        yield { key: [profile, address(member)] }
      }
    }
  }
}

/** Elements of `members` that `touched` addresses have, or have no longer. */
export function touchedElements(
  wanted: WantedPlane,
  family: PlaneFamily,
  touched: ReadonlyMap<string, ReadonlySet<string>>,
): { readonly element: PlaneElement; readonly isWanted: boolean }[] {
  const address = addressIn(wanted, family)
  return reachesOf(wanted, family).flatMap(({ profile, networks }) => {
    const addresses = new Set(networks.flatMap(({ id }) => [...(touched.get(id) ?? [])]))
    return [...addresses].map((member) => ({
      element: { key: [profile, address(member)] },
      isWanted: networks.some(({ members }) => members.has(member)),
    }))
  })
}

/** How an address of the plane is written in a family. */
function addressIn({ ipv6Prefix }: WantedPlane, family: PlaneFamily): (ipv4: string) => string {
  if (family === 'ipv4' || ipv6Prefix === undefined) return (ipv4) => ipv4
  return (ipv4) => ipv6Of(ipv6Prefix, ipv4)
}
