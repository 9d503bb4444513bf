/**
 * Connection tracking: reading the table, and deleting what must not go on (flows to a replica that
 * is gone, of UDP above all). Pure but for {@link deleteConnections}; for a `NetlinkSocket` of
 * protocol `netfilter`. Numbers in attributes are big-endian.
 * Source: `include/uapi/linux/netfilter/nfnetlink_conntrack.h`, `nf_conntrack_netlink.c`.
 */
import { AF_INET, AF_INET6, addressBytes, addressText } from './address.ts'
import { required } from './attributes.ts'
import type { Attributes } from './attributes.ts'
import type { MessageWriter, NetlinkRequest } from './message-writer.ts'
import { NLM_F_DUMP, headerView } from './message.ts'
import type { NetlinkMessage } from './message.ts'
import { malformed } from './netlink-error.ts'
import {
  NFGENMSG_BYTES,
  NFNL_SUBSYS_CTNETLINK,
  nfnetlinkAttributes,
  nfnetlinkHeader,
  nfnetlinkType,
} from './nfnetlink.ts'
import type { CallOptions, NetlinkSocket } from './socket.ts'

const CT_GET = 1
const CT_DELETE = 2

const CTA = {
  original: 1,
  reply: 2,
  status: 3,
  timeout: 7,
  mark: 8,
  id: 12,
  zone: 18,
  markMask: 21,
  filter: 25,
} as const
/** Of a connection's status: packets came back. */
const IPS_SEEN_REPLY = 1 << 1
const CTA_FILTER = { replyFlags: 2 } as const
/** Compare the source address alone. */
const FILTER_SOURCE = 1
const CTA_TUPLE = { address: 1, protocol: 2 } as const
const CTA_ADDRESS = {
  ipv4Source: 1,
  ipv4Destination: 2,
  ipv6Source: 3,
  ipv6Destination: 4,
} as const
const CTA_PROTOCOL = { number: 1, sourcePort: 2, destinationPort: 3 } as const

/** One direction of a connection. Ports are 0 for protocols without them. */
export interface ConnectionTuple {
  readonly source: string
  readonly sourcePort: number
  readonly destination: string
  readonly destinationPort: number
}

/** A tracked connection. */
export interface Connection {
  readonly family: 'ipv4' | 'ipv6'
  /** Number of the transport protocol: 6, 17, 132. */
  readonly protocol: number
  /** As the first packet came. */
  readonly original: ConnectionTuple
  /** As answers come: its source is where the packets really go. */
  readonly reply: ConnectionTuple
  /** Bits of `IPS_*`. */
  readonly status: number
  readonly mark: number
  /** Seconds until it is forgotten when nothing comes; undefined while it cannot be. */
  readonly timeoutSeconds: number | undefined
  /** Tells it from a later one with the same addresses. */
  readonly id: number
  readonly zone: number
  /** The reply tuple as the kernel wrote it. */
  readonly replyBytes: Uint8Array
}

/** Which connections to read. */
export interface ConnectionFilter {
  readonly family: Connection['family']
  /** The kernel gives those alone whose mark has these bits. */
  readonly mark?: { readonly value: number; readonly mask: number }
  /**
   * The kernel gives those alone that are answered from this address; before 5.8, and in IPv6, it
   * gives all.
   */
  readonly replySource?: string
}

/** Reads the table: for `dump`. */
export function dumpConnections(filter: ConnectionFilter): NetlinkRequest {
  return {
    operation: `list ${filter.family} connections`,
    type: nfnetlinkType(NFNL_SUBSYS_CTNETLINK, CT_GET),
    flags: NLM_F_DUMP,
    body: (writer) => {
      nfnetlinkHeader(writer, filter.family === 'ipv4' ? AF_INET : AF_INET6)
      // In IPv6 Linux compares the wrong way round and gives all the others (measured: 6.18).
      const { replySource } = filter
      if (replySource !== undefined && filter.family === 'ipv4') {
        writeReplySource(writer, replySource)
      }
      if (filter.mark === undefined) return
      writer.u32be(CTA.mark, filter.mark.value)
      writer.u32be(CTA.markMask, filter.mark.mask)
    },
  }
}

function writeReplySource(writer: MessageWriter, address: string): void {
  writer.nested(CTA.reply, () => {
    writer.nested(CTA_TUPLE.address, () =>
      writer.bytesOf(CTA_ADDRESS.ipv4Source, addressBytes(address)),
    )
  })
  writer.nested(CTA.filter, () => writer.u32(CTA_FILTER.replyFlags, FILTER_SOURCE))
}

/**
 * Deletes one connection, and none that came after it. ENOENT when it has ended.
 *
 * It is named by its answers, which say where it really went. A client that uses a port again makes
 * a connection with the same first direction, which the kernel may keep at the very place of the
 * one before: then its id is the same, too.
 */
export function deleteConnection(connection: Connection): NetlinkRequest {
  const { source, destination } = connection.original
  return {
    operation: `delete connection from ${source} to ${destination}`,
    type: nfnetlinkType(NFNL_SUBSYS_CTNETLINK, CT_DELETE),
    flags: 0,
    body: (writer) => {
      nfnetlinkHeader(writer, connection.family === 'ipv4' ? AF_INET : AF_INET6)
      writer.nestedBytes(CTA.reply, connection.replyBytes)
      writer.u32be(CTA.id, connection.id)
      if (connection.zone !== 0) writer.u16be(CTA.zone, connection.zone)
    },
  }
}

/** Whether anything ever came back: of TCP an answer to its first packet. */
export function isAnswered({ status }: Pick<Connection, 'status'>): boolean {
  return (status & IPS_SEEN_REPLY) !== 0
}

/** Reads the table and deletes what `isUnwanted` names; how many. @throws NetlinkError */
export async function deleteConnections(
  socket: NetlinkSocket,
  filter: ConnectionFilter,
  isUnwanted: (connection: Connection) => boolean,
  options: CallOptions = {},
): Promise<number> {
  const messages = await socket.dump(dumpConnections(filter), options)
  const unwanted = messages.map(decodeConnection).filter(isUnwanted)
  const failures = await socket.batch(unwanted.map(deleteConnection), options)
  // What ended meanwhile is what was wanted.
  const [real] = failures.filter(({ error }) => error.errno !== 'ENOENT')
  if (real !== undefined) throw real.error
  return unwanted.length - failures.length
}

/** @throws NetlinkError EBADMSG */
export function decodeConnection(message: NetlinkMessage): Connection {
  const family = headerView(message, NFGENMSG_BYTES).getUint8(0)
  if (family !== AF_INET && family !== AF_INET6) throw malformed(`connection of family ${family}`)
  const attributes = nfnetlinkAttributes(message)
  const original = required(attributes.nested(CTA.original), 'original tuple')
  const reply = required(attributes.nested(CTA.reply), 'reply tuple')
  return {
    family: family === AF_INET ? 'ipv4' : 'ipv6',
    protocol: original.nested(CTA_TUPLE.protocol)?.u8(CTA_PROTOCOL.number) ?? 0,
    original: decodeTuple(original, family),
    reply: decodeTuple(reply, family),
    status: attributes.u32be(CTA.status) ?? 0,
    mark: attributes.u32be(CTA.mark) ?? 0,
    timeoutSeconds: attributes.u32be(CTA.timeout),
    id: attributes.u32be(CTA.id) ?? 0,
    zone: attributes.u16be(CTA.zone) ?? 0,
    replyBytes: Uint8Array.from(required(attributes.bytes(CTA.reply), 'reply tuple')),
  }
}

function decodeTuple(tuple: Attributes, family: number): ConnectionTuple {
  const addresses = required(tuple.nested(CTA_TUPLE.address), 'addresses')
  const protocol = tuple.nested(CTA_TUPLE.protocol)
  const isIpv4 = family === AF_INET
  const source = isIpv4 ? CTA_ADDRESS.ipv4Source : CTA_ADDRESS.ipv6Source
  const destination = isIpv4 ? CTA_ADDRESS.ipv4Destination : CTA_ADDRESS.ipv6Destination
  return {
    source: addressText(family, required(addresses.bytes(source), 'source')),
    sourcePort: protocol?.u16be(CTA_PROTOCOL.sourcePort) ?? 0,
    destination: addressText(family, required(addresses.bytes(destination), 'destination')),
    destinationPort: protocol?.u16be(CTA_PROTOCOL.destinationPort) ?? 0,
  }
}
