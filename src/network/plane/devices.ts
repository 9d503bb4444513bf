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
import { difference } from './difference.ts'
import { macOfBridge, ipv6Of, planeNames } from './names.ts'
import type { WantedPlane } from './wanted-plane.ts'

/** Bytes that VXLAN puts around a packet: Ethernet, VXLAN, UDP, and the underlay's IP header. */
const OVERHEAD_BYTES = { ipv4: 50, ipv6: 70 } as const
/** MTU of an underlay that this host does not have itself: it is behind address translation. */
const UNDERLAY_MTU_DEFAULT = 1_500
const IPV6_ALL = 128
/** The kernel asks for a task's MAC from a link-local address, or not at all (`ndisc_send_ns`). */
const SOLICITING_ADDRESS = 'fe80::1/64'

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
export function addressTextOf({ link, prefix }: LinkAddress): string {
  return `${link} ${prefix}`
}
