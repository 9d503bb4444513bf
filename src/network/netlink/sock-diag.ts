/**
 * Sockets that take new clients, from the kernel's own tables: for a `NetlinkSocket` of protocol
 * `diag`, opened in the namespace that is asked about. Pure.
 *
 * The kernel gives those alone that are in the state that is asked for; of TCP it then walks its
 * table of listeners and not that of connections, which `/proc/net/tcp` walks whole.
 * Source: `include/uapi/linux/sock_diag.h`, `inet_diag.h`; `net/ipv4/inet_diag.c`, `udp_diag.c`.
 */
import { AF_INET, AF_INET6, addressText } from './address.ts'
import type { NetlinkRequest } from './message-writer.ts'
import { NLM_F_DUMP, headerView } from './message.ts'
import type { NetlinkMessage } from './message.ts'
import { malformed } from './netlink-error.ts'

/** `SOCK_DIAG_BY_FAMILY` */
const BY_FAMILY = 20
const PROTOCOL_NUMBERS = { tcp: 6, udp: 17 } as const
/** Bits of states: TCP_LISTEN; TCP_CLOSE for UDP, which has no listening: bound, not connected. */
const STATES = { tcp: 1 << 10, udp: 1 << 7 } as const
/** `struct inet_diag_sockid`, all zero: any. */
const SOCKET_ID_WORDS = 12
/** `struct inet_diag_msg` */
const ANSWER_BYTES = 72
const PORT_OFFSET = 4
const ADDRESS_OFFSET = 8

/** Which sockets to list. */
export interface SocketQuery {
  readonly protocol: keyof typeof PROTOCOL_NUMBERS
  /** `ipv6` includes those that take clients of both families. */
  readonly family: 'ipv4' | 'ipv6'
}

/** Where a socket takes clients. */
export interface OpenSocket {
  /** `0.0.0.0` and `::` are all addresses. */
  readonly address: string
  readonly port: number
}

/** Lists sockets that take new clients: for `dump`. ENOENT where the kernel cannot say. */
export function dumpOpenSockets({ protocol, family }: SocketQuery): NetlinkRequest {
  return {
    operation: `list open ${protocol} sockets of ${family}`,
    type: BY_FAMILY,
    flags: NLM_F_DUMP,
    body: (writer) => {
      writer.rawU8(family === 'ipv4' ? AF_INET : AF_INET6)
      writer.rawU8(PROTOCOL_NUMBERS[protocol])
      // No extensions; padding.
      writer.rawU16(0)
      writer.rawU32(STATES[protocol])
      for (let word = 0; word < SOCKET_ID_WORDS; word += 1) writer.rawU32(0)
    },
  }
}

/** Reads one. @throws NetlinkError EBADMSG */
export function decodeOpenSocket(message: NetlinkMessage): OpenSocket {
  const view = headerView(message, ANSWER_BYTES)
  const family = view.getUint8(0)
  if (message.type !== BY_FAMILY || (family !== AF_INET && family !== AF_INET6)) {
    throw malformed(`message ${message.type} of family ${family} is no socket`)
  }
  const bytes = new Uint8Array(view.buffer, view.byteOffset + ADDRESS_OFFSET)
  return { address: addressText(family, bytes.subarray(0, 16)), port: view.getUint16(PORT_OFFSET) }
}
