/**
 * Frames as nobody should send them: made by hand, sent through a packet socket inside another
 * namespace. For tests of what forgeries reach, as root.
 */
import { closeSync, openSync } from 'node:fs'
import koffi from 'koffi'
import { addressBytes, macBytes } from '../netlink/address.ts'

const CLONE_NEWNET = 0x4000_0000
const AF_PACKET = 17
const SOCK_RAW = 3
const SOCKADDR_LL_BYTES = 20
const ETHERTYPE = { ipv4: 0x0800, arp: 0x0806, ipv6: 0x86dd } as const
const UDP = 17
const ICMPV6 = 58
const NEIGHBOUR_SOLICITATION = 135

type Call = (...values: readonly (number | string | Uint8Array)[]) => number

const library = koffi.load(null)
const setns = library.func('int setns(int fd, int type)') as Call
const makeSocket = library.func('int socket(int family, int type, int protocol)') as Call
const indexOfName = library.func('unsigned int if_nametoindex(const char *name)') as Call
const sendTo = library.func(
  'long sendto(int fd, const uint8_t *bytes, size_t count, int flags, const uint8_t *to, uint32_t size)',
) as Call

/** Who is on both ends of a frame, and of the packet in it. */
export interface Ends {
  readonly fromMac: string
  readonly toMac: string
  readonly from: string
  readonly to: string
}

/** Sends a frame as it is from `eth0` of a namespace. */
export function sendFrame(netns: string, frame: Uint8Array): void {
  const own = openSync('/proc/thread-self/ns/net', 'r')
  const other = openSync(netns, 'r')
  try {
    checked('setns', setns(other, CLONE_NEWNET))
    try {
      const fd = checked('socket', makeSocket(AF_PACKET, SOCK_RAW, 0))
      const to = Buffer.alloc(SOCKADDR_LL_BYTES)
      to.writeUInt16LE(AF_PACKET, 0)
      to.writeInt32LE(checked('if_nametoindex', indexOfName('eth0')), 4)
      checked('sendto', sendTo(fd, frame, frame.length, 0, to, to.length))
      closeSync(fd)
    } finally {
      checked('setns', setns(own, CLONE_NEWNET))
    }
  } finally {
    closeSync(own)
    closeSync(other)
  }
}

/** One datagram of UDP over IPv4. */
export function udpFrame(ends: Ends, port: number): Uint8Array {
  const udp = Buffer.alloc(8)
  udp.writeUInt16BE(port, 0)
  udp.writeUInt16BE(port, 2)
  udp.writeUInt16BE(udp.length, 4)
  const header = Buffer.alloc(20)
  header[0] = 0x45
  header.writeUInt16BE(header.length + udp.length, 2)
  header[8] = 64
  header[9] = UDP
  header.set(addressBytes(ends.from), 12)
  header.set(addressBytes(ends.to), 16)
  header.writeUInt16BE(checksum(header), 10)
  return ethernet(ends, ETHERTYPE.ipv4, Buffer.concat([header, udp]))
}

/** A question for `to` in the name of `from`; `claimedMac` is what the question says. */
export function arpFrame(ends: Ends, claimedMac: string): Uint8Array {
  const arp = Buffer.alloc(28)
  arp.set([0, 1, 8, 0, 6, 4, 0, 1])
  arp.set(macBytes(claimedMac), 8)
  arp.set(addressBytes(ends.from), 14)
  arp.set(addressBytes(ends.to), 24)
  return ethernet(ends, ETHERTYPE.arp, arp)
}

/** The same in IPv6. */
export function solicitationFrame(ends: Ends, claimedMac: string): Uint8Array {
  const body = Buffer.alloc(32)
  body[0] = NEIGHBOUR_SOLICITATION
  body.set(addressBytes(ends.to), 8)
  body.set([1, 1, ...macBytes(claimedMac)], 24)
  const header = Buffer.alloc(40)
  header[0] = 0x60
  header.writeUInt16BE(body.length, 4)
  header[6] = ICMPV6
  header[7] = 255
  header.set(addressBytes(ends.from), 8)
  header.set(addressBytes(ends.to), 24)
  const trailer = Buffer.from([0, 0, 0, body.length, 0, 0, 0, ICMPV6])
  body.writeUInt16BE(checksum(Buffer.concat([header.subarray(8), trailer, body])), 2)
  return ethernet(ends, ETHERTYPE.ipv6, Buffer.concat([header, body]))
}

function ethernet(ends: Ends, type: number, payload: Uint8Array): Uint8Array {
  const kind = Uint8Array.of(type >> 8, type & 0xff)
  return Buffer.concat([macBytes(ends.toMac), macBytes(ends.fromMac), kind, payload])
}

/** The internet's checksum, RFC 1071. */
function checksum(bytes: Buffer): number {
  let sum = 0
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16)
  return ~sum & 0xffff
}

function checked(what: string, result: number): number {
  if (result < 0) throw new Error(`${what}: errno ${koffi.errno()}`)
  return result
}
