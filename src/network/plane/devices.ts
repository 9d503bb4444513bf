/**
 * The plane's two devices and their addresses: the bridge that this node's tasks are ports of, and
 * the VXLAN device to the other nodes. Made when they are not there, corrected when they differ;
 * a device of that name that is something else is not touched.
 *
 * The bridge has a MAC of its own (else it takes its ports', and tasks would send to a MAC that is
 * gone), and neither device makes a link-local address: what answers there is what we put there.
 */
import { SwarmError } from '../../base/errors.ts'
import { decodeLink } from '../netlink/link-reply.ts'
import type { Link } from '../netlink/link-reply.ts'
import { deleteLink, dumpLinks, getLink, newLink, setBridgePort, setLink } from '../netlink/link.ts'
import type { LinkChanges, LinkKind } from '../netlink/link.ts'
import type { NetlinkRequest } from '../netlink/message-writer.ts'
import { isNetlinkError } from '../netlink/netlink-error.ts'
import { decodeAddress, deleteAddress, dumpAddresses, setAddress } from '../netlink/route.ts'
import type { LinkAddress } from '../netlink/route.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import type { ForeignAddress } from './conflicts.ts'
import { difference } from './difference.ts'
import { ipv6Of } from '../../store/ipv6.ts'
import { macOfBridge, planeNames } from './names.ts'
import type { WantedPlane } from './wanted-plane.ts'

/** Bytes that VXLAN puts around a packet: Ethernet, VXLAN, UDP, and the underlay's IP header. */
const OVERHEAD_BYTES = { ipv4: 50, ipv6: 70 } as const
/** MTU of an underlay that this host does not have itself: it is behind address translation. */
const UNDERLAY_MTU_DEFAULT = 1_500
const IPV6_ALL = 128

/** The devices as they are now. */
export interface PlaneDevices {
  readonly bridge: Link
  /** Undefined: no other node can be reached by it. */
  readonly vxlan: Link | undefined
  /** MTU of the overlay; tasks' devices have it, too. */
  readonly mtu: number
  /** Requests that were needed. */
  readonly changes: number
}

/** The device of this name, if there is one. @throws NetlinkError */
export async function findLink(socket: NetlinkSocket, name: string): Promise<Link | undefined> {
  try {
    const [message] = await socket.request(getLink(name))
    return message === undefined ? undefined : decodeLink(message)
  } catch (error) {
    if (isNetlinkError(error, 'ENODEV')) return undefined
    throw error
  }
}

/** Makes the devices so. @throws NetlinkError, FAILED_PRECONDITION */
export async function ensureDevices(
  socket: NetlinkSocket,
  wanted: WantedPlane,
): Promise<PlaneDevices> {
  const names = planeNames(wanted.nodeId)
  const underlay = await underlayOf(socket, wanted)
  const macAddress = macOfBridge(wanted.nodeId)
  const bridge = await ensureDevice(socket, {
    name: names.bridge,
    kind: { kind: 'bridge', multicastSnooping: false, callIptables: false },
    values: { mtu: underlay.mtu, macAddress },
  })
  const ports = await isolatePorts(socket, bridge.link)
  const vxlan = await ensureVxlan(socket, wanted, underlay)
  const changes = bridge.changes + ports + vxlan.changes
  return { bridge: bridge.link, vxlan: vxlan.link, mtu: underlay.mtu, changes }
}

/** Gives the devices their addresses and no others; how many changed. @throws NetlinkError */
export async function ensureAddresses(
  socket: NetlinkSocket,
  wanted: WantedPlane,
  { bridge, vxlan }: PlaneDevices,
): Promise<number> {
  const { gateway, tunnelAddress, ipv6Prefix } = wanted
  const ipv6 = (address: string): string[] =>
    ipv6Prefix === undefined ? [] : [`${ipv6Of(ipv6Prefix, address)}/${IPV6_ALL}`]
  const bits = wanted.subnet.split('/')[1] ?? '32'
  const onBridge = [`${gateway}/${bits}`, ...ipv6(gateway)]
  const onVxlan = vxlan === undefined ? [] : [`${tunnelAddress}/32`, ...ipv6(tunnelAddress)]
  const want = [
    ...onBridge.map((prefix) => ({ link: bridge.index, prefix })),
    ...onVxlan.map((prefix) => ({ link: vxlan?.index ?? 0, prefix })),
  ]
  const ours = [bridge.index, vxlan?.index]
  const all = (await socket.dump(dumpAddresses())).map(decodeAddress)
  const have = all.filter(({ link }) => ours.includes(link))
  const { missing, surplus } = difference(have, want, { have: addressTextOf, want: addressTextOf })
  // An older daemon's bridge may have a link-local address: it goes with the others.
  const requests: NetlinkRequest[] = [...surplus.map(deleteAddress), ...missing.map(setAddress)]
  for (const request of requests) await socket.request(request)
  return requests.length
}

/** Addresses on devices that are not the plane's. @throws NetlinkError */
export async function foreignAddresses(
  socket: NetlinkSocket,
  nodeId: string,
): Promise<ForeignAddress[]> {
  const { bridge, vxlan } = planeNames(nodeId)
  const links = (await socket.dump(dumpLinks())).map(decodeLink)
  const names = new Map(links.map(({ index, name }) => [index, name]))
  return (await socket.dump(dumpAddresses())).map(decodeAddress).flatMap(({ link, prefix }) => {
    const device = names.get(link) ?? String(link)
    return device === bridge || device === vxlan ? [] : [{ device, prefix }]
  })
}

/** Removes both devices, and what the kernel has on them; whether any was there. */
export async function removeDevices(socket: NetlinkSocket, nodeId: string): Promise<boolean> {
  const { bridge, vxlan } = planeNames(nodeId)
  let removed = false
  for (const [name, kind] of [
    [vxlan, 'vxlan'],
    [bridge, 'bridge'],
  ] as const) {
    const link = await findLink(socket, name)
    if (link?.kind !== kind) continue
    await socket.request(deleteLink(link.index))
    removed = true
  }
  return removed
}

/** No link-local address by itself. On a kernel without IPv6 there is nothing to prevent. */
export async function withoutLinkLocal(socket: NetlinkSocket, name: string): Promise<void> {
  try {
    await socket.request(setLink(name, { linkLocalAddress: false }))
  } catch (error) {
    if (!isNetlinkError(error, 'EAFNOSUPPORT', 'EOPNOTSUPP', 'EINVAL')) throw error
  }
}

interface Underlay {
  /** Whether the address that this node advertises is one of this host's. */
  readonly isLocal: boolean
  /** What a packet of the overlay may have. */
  readonly mtu: number
}

async function underlayOf(socket: NetlinkSocket, wanted: WantedPlane): Promise<Underlay> {
  const { underlayAddress } = wanted.vxlan
  const addresses = (await socket.dump(dumpAddresses())).map(decodeAddress)
  const found = addresses.find(({ prefix }) => prefix.split('/')[0] === underlayAddress)
  const [message] = found === undefined ? [] : await socket.request(getLink(found.link))
  const underlayMtu = message === undefined ? UNDERLAY_MTU_DEFAULT : decodeLink(message).mtu
  const overhead = OVERHEAD_BYTES[underlayAddress?.includes(':') === true ? 'ipv6' : 'ipv4']
  return { isLocal: found !== undefined, mtu: underlayMtu - overhead }
}

interface WantedDevice {
  readonly name: string
  readonly kind: LinkKind
  readonly values: { readonly mtu: number; readonly macAddress: string }
  /** Whether a device that is there can be kept; else it is made anew. */
  readonly isSame?: (link: Link) => boolean
}

interface EnsuredDevice {
  readonly link: Link
  readonly changes: number
}

async function ensureDevice(socket: NetlinkSocket, wanted: WantedDevice): Promise<EnsuredDevice> {
  const { name, kind, values, isSame } = wanted
  const found = await findLink(socket, name)
  if (found !== undefined && found.kind !== kind.kind) {
    const what = `device "${name}": exists and is no ${kind.kind}; rename or delete it`
    throw new SwarmError('FAILED_PRECONDITION', what)
  }
  if (found === undefined || isSame?.(found) === false) {
    if (found !== undefined) await socket.request(deleteLink(found.index))
    return makeDevice(socket, wanted)
  }
  const changes: LinkChanges = {
    ...(found.mtu === values.mtu ? {} : { mtu: values.mtu }),
    ...(found.macAddress === values.macAddress ? {} : { macAddress: values.macAddress }),
    ...(found.isUp ? {} : { up: true }),
  }
  if (Object.keys(changes).length === 0) return { link: found, changes: 0 }
  await socket.request(setLink(found.index, changes))
  return { link: { ...found, ...values, isUp: true }, changes: 1 }
}

/** It comes up last: the kernel makes a link-local address when it does. */
async function makeDevice(socket: NetlinkSocket, wanted: WantedDevice): Promise<EnsuredDevice> {
  const { name, kind, values } = wanted
  await socket.request(newLink({ name, ...values, up: false }, kind))
  await withoutLinkLocal(socket, name)
  await socket.request(setLink(name, { up: true }))
  const link = await findLink(socket, name)
  if (link !== undefined) return { link, changes: 3 }
  throw new SwarmError('FAILED_PRECONDITION', `device "${name}": somebody deletes it`)
}

/** Ports of tasks that an older daemon connected. */
async function isolatePorts(socket: NetlinkSocket, bridge: Link): Promise<number> {
  const links = (await socket.dump(dumpLinks({ master: bridge.index }))).map(decodeLink)
  const open = links.filter(
    (link) => link.master === bridge.index && link.bridgePort?.isolated === false,
  )
  for (const { index } of open) await socket.request(setBridgePort(index, { isolated: true }))
  return open.length
}

async function ensureVxlan(
  socket: NetlinkSocket,
  wanted: WantedPlane,
  underlay: Underlay,
): Promise<{ readonly link: Link | undefined; readonly changes: number }> {
  const { id, port, macAddress, underlayAddress } = wanted.vxlan
  if (underlayAddress === undefined) return { link: undefined, changes: 0 }
  const local = underlay.isLocal ? { local: underlayAddress } : {}
  return ensureDevice(socket, {
    name: planeNames(wanted.nodeId).vxlan,
    kind: { kind: 'vxlan', id, port, learning: false, ...local },
    values: { mtu: underlay.mtu, macAddress },
    isSame: ({ vxlan }) =>
      vxlan?.id === id &&
      vxlan.port === port &&
      vxlan.learning !== true &&
      vxlan.local === local.local,
  })
}

function addressTextOf({ link, prefix }: LinkAddress): string {
  return `${link} ${prefix}`
}
