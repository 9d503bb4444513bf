/**
 * What netfilter's families share: message types with the subsystem in the high byte, a 4-byte
 * header of family, version and resource, and batches. Source:
 * `include/uapi/linux/netfilter/nfnetlink.h`.
 */
import { Attributes } from './attributes.ts'
import type { MessageWriter, NetlinkRequest } from './message-writer.ts'
import { headerView } from './message.ts'
import type { NetlinkMessage } from './message.ts'

export const NFNL_SUBSYS_CTNETLINK = 1
export const NFNL_SUBSYS_NFTABLES = 10
const NFNL_MSG_BATCH_BEGIN = 0x10
const NFNL_MSG_BATCH_END = 0x11
const NFNL_BATCH_GENID = 1

/** Bytes of the header that each message of netfilter begins with. */
export const NFGENMSG_BYTES = 4

/** Protocol families of netfilter. */
export const NFPROTO = { inet: 1, ipv4: 2, arp: 3, netdev: 5, bridge: 7, ipv6: 10 } as const

/** Message type of a subsystem's command. */
export function nfnetlinkType(subsystem: number, command: number): number {
  return (subsystem << 8) | command
}

/** Writes `struct nfgenmsg`. */
export function nfnetlinkHeader(writer: MessageWriter, family: number, resource = 0): void {
  writer.rawU8(family)
  writer.rawU8(0)
  writer.rawU16be(resource)
}

/** The attributes after the header. @throws NetlinkError EBADMSG */
export function nfnetlinkAttributes(message: NetlinkMessage): Attributes {
  return new Attributes(headerView(message, NFGENMSG_BYTES), NFGENMSG_BYTES)
}

/**
 * Opens a transaction of a subsystem: ERESTART unless `generation` is the current one, if given.
 */
export function beginBatch(subsystem: number, generation?: number): NetlinkRequest {
  return {
    operation: 'begin batch',
    type: NFNL_MSG_BATCH_BEGIN,
    flags: 0,
    body: (writer) => {
      nfnetlinkHeader(writer, 0, subsystem)
      if (generation !== undefined) writer.u32be(NFNL_BATCH_GENID, generation)
    },
  }
}

/** Commits it. */
export function endBatch(subsystem: number): NetlinkRequest {
  return {
    operation: 'end batch',
    type: NFNL_MSG_BATCH_END,
    flags: 0,
    body: (writer) => nfnetlinkHeader(writer, 0, subsystem),
  }
}
