/**
 * Generic netlink: families are found by name at the controller. Asking for `IPVS` loads its module
 * where the kernel can; ENOENT means that the kernel has no such family.
 * Source: `include/uapi/linux/genetlink.h`, `net/netlink/genetlink.c`.
 */
import { Attributes, required } from './attributes.ts'
import type { MessageWriter, NetlinkRequest } from './message-writer.ts'
import { headerView } from './message.ts'
import type { NetlinkMessage } from './message.ts'
import type { CallOptions, NetlinkSocket } from './socket.ts'
import { NetlinkError } from './netlink-error.ts'

const GENL_ID_CTRL = 16
const CTRL_CMD_GETFAMILY = 3
const CTRL_ATTR_FAMILY_ID = 1
const CTRL_ATTR_FAMILY_NAME = 2
const CTRL_ATTR_VERSION = 3
const CTRL_ATTR_MCAST_GROUPS = 7
const CTRL_ATTR_MCAST_GRP_NAME = 1
const CTRL_ATTR_MCAST_GRP_ID = 2

/** Bytes of the header that each generic message begins with. */
export const GENL_HEADER_BYTES = 4

/** A family of generic netlink. */
export interface GenericFamily {
  /** Message type of its requests. */
  readonly id: number
  readonly name: string
  readonly version: number
  /** Multicast groups by name. */
  readonly groups: ReadonlyMap<string, number>
}

/** Writes `struct genlmsghdr`. */
export function genericHeader(writer: MessageWriter, command: number, version: number): void {
  writer.rawU8(command)
  writer.rawU8(version)
  writer.rawU16(0)
}

/** The attributes after the generic header. @throws NetlinkError EBADMSG */
export function genericAttributes(message: NetlinkMessage): Attributes {
  return new Attributes(headerView(message, GENL_HEADER_BYTES), GENL_HEADER_BYTES)
}

/** Asks for a family by name. */
export function getFamily(name: string): NetlinkRequest {
  return {
    operation: `find generic family "${name}"`,
    type: GENL_ID_CTRL,
    flags: 0,
    body: (writer) => {
      genericHeader(writer, CTRL_CMD_GETFAMILY, 1)
      writer.text(CTRL_ATTR_FAMILY_NAME, name)
    },
  }
}

/** @throws NetlinkError EBADMSG */
export function decodeFamily(message: NetlinkMessage): GenericFamily {
  const attributes = genericAttributes(message)
  const groups = attributes
    .list(CTRL_ATTR_MCAST_GROUPS)
    .map((group): [string, number] => [
      required(group.text(CTRL_ATTR_MCAST_GRP_NAME), 'group name'),
      required(group.u32(CTRL_ATTR_MCAST_GRP_ID), 'group id'),
    ])
  return {
    id: required(attributes.u16(CTRL_ATTR_FAMILY_ID), 'family id'),
    name: required(attributes.text(CTRL_ATTR_FAMILY_NAME), 'family name'),
    version: attributes.u32(CTRL_ATTR_VERSION) ?? 0,
    groups: new Map(groups),
  }
}

/** Finds a family. @throws NetlinkError ENOENT when the kernel has none of this name */
export async function resolveFamily(
  socket: NetlinkSocket,
  name: string,
  options: CallOptions = {},
): Promise<GenericFamily> {
  const request = getFamily(name)
  const [answer] = await socket.request(request, options)
  if (answer === undefined) throw new NetlinkError('ENOENT', request.operation)
  return decodeFamily(answer)
}
