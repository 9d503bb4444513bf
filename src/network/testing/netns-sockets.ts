/**
 * Sockets in other network namespaces, in this process: a socket stays in the namespace it was made
 * in, so this thread enters it for as long as `socket(2)` takes. Node does the rest by descriptor.
 * For tests, as root.
 */
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { Socket } from 'node:net'
import { promisify } from 'node:util'
import koffi from 'koffi'
import type { Place } from '../conformance-peers.ts'
import { AF_INET6, addressBytes, addressText, familyOf } from '../netlink/address.ts'

const CLONE_NEWNET = 0x4000_0000
const SOCK_STREAM = 1
const SOCK_DGRAM = 2
const SOCK_RAW = 3
const SOCK_CLOEXEC = 0o2000000
const SOL_SOCKET = 1
const SO_RCVTIMEO = 20
const SO_SNDTIMEO = 21
const CONNECT_TIMEOUT_S = 5
/** Of `sockaddr_in6`; the kernel reads as many of it as the family has. */
const SOCKADDR_BYTES = 28
const PACKET_BYTES = 2_048
/** Microseconds that a raw socket waits for a packet. */
const RECEIVE_WAIT_US = 20_000
const ADDRESS_AT = { 4: 4, 16: 8 } as const

type Call = (...values: readonly (number | Uint8Array)[]) => number

const library = koffi.load(null)
const setns = library.func('int setns(int fd, int type)') as Call
const makeSocket = library.func('int socket(int family, int type, int protocol)') as Call
const bind = library.func('int bind(int fd, const uint8_t *address, uint32_t bytes)') as Call
const setOption = library.func(
  'int setsockopt(int fd, int level, int name, const uint8_t *value, uint32_t bytes)',
) as Call
const sendTo = library.func(
  'intptr_t sendto(int fd, const uint8_t *bytes, size_t count, int flags, ' +
    'const uint8_t *address, uint32_t size)',
) as Call
const receiveFunction = library.func(
  'intptr_t recvfrom(int fd, _Out_ uint8_t *bytes, size_t count, int flags, ' +
    '_Out_ uint8_t *address, _Inout_ uint8_t *size)',
)
const receiveFrom = promisify(receiveFunction.async.bind(receiveFunction)) as (
  ...values: readonly (number | Uint8Array)[]
) => Promise<number>
const connectFunction = library.func('int connect(int fd, const uint8_t *address, uint32_t bytes)')
const connect = promisify(connectFunction.async.bind(connectFunction)) as (
  ...values: readonly (number | Uint8Array)[]
) => Promise<number>

/** Peers and clients in the namespace at `netns`, known by `address`. */
export function netnsPlace(netns: string, address: string): Place {
  return {
    address,
    async listen(server) {
      server.listen({ fd: boundSocket(netns, SOCK_STREAM, address) })
      await once(server, 'listening')
    },
    async bind(socket) {
      // With a descriptor the event comes inside the call.
      const listening = once(socket, 'listening')
      socket.bind({ fd: boundSocket(netns, SOCK_DGRAM, address) })
      await listening
    },
    async connect(port, host) {
      const fd = openSocket(netns, SOCK_STREAM, host)
      checked('bind', bind(fd, socketAddress(address, 0), SOCKADDR_BYTES))
      const waiting = new Uint8Array(16)
      new DataView(waiting.buffer).setBigInt64(0, BigInt(CONNECT_TIMEOUT_S), true)
      checked('setsockopt', setOption(fd, SOL_SOCKET, SO_SNDTIMEO, waiting, waiting.length))
      // Blocks in a thread: the errno stays there.
      if ((await connect(fd, socketAddress(host, port), SOCKADDR_BYTES)) !== 0) {
        closeSync(fd)
        throw new Error(`connect to ${host}:${port}: refused, or no answer`)
      }
      return new Socket({ fd, allowHalfOpen: true, readable: true, writable: true })
    },
  }
}

/** A socket for packets of one protocol, of those to and from one address. */
export interface RawSocket {
  send(bytes: Uint8Array, host: string): void
  /** The next packet behind its IP header; undefined: none came for a while. */
  receive(): Promise<{ readonly bytes: Uint8Array; readonly from: string } | 'closed' | undefined>
  close(): void
}

/** Opens a raw socket in the namespace at `netns`. */
export function rawSocket(netns: string, address: string, protocol: number): RawSocket {
  const isIpv6 = familyOf(address) === AF_INET6
  const fd = openSocket(netns, SOCK_RAW, address, protocol)
  checked('bind', bind(fd, socketAddress(address, 0), SOCKADDR_BYTES))
  const waiting = new Uint8Array(16)
  new DataView(waiting.buffer).setBigInt64(8, BigInt(RECEIVE_WAIT_US), true)
  checked('setsockopt', setOption(fd, SOL_SOCKET, SO_RCVTIMEO, waiting, waiting.length))
  let isOpen = true
  let reading = Promise.resolve<unknown>(undefined)
  const read = async (): ReturnType<RawSocket['receive']> => {
    if (!isOpen) return 'closed'
    const buffer = new Uint8Array(PACKET_BYTES)
    const sender = new Uint8Array(SOCKADDR_BYTES)
    const length = new Uint8Array([SOCKADDR_BYTES, 0, 0, 0])
    const count = await receiveFrom(fd, buffer, buffer.length, 0, sender, length)
    if (count <= 0) return undefined
    const start = isIpv6 ? 0 : ((buffer[0] ?? 0) & 0xf) * 4
    const at = isIpv6 ? ADDRESS_AT[16] : ADDRESS_AT[4]
    const from = addressText(familyOf(address), sender.subarray(at, at + (isIpv6 ? 16 : 4)))
    return { bytes: buffer.slice(start, count), from }
  }
  return {
    send(bytes, host) {
      // A raw socket of IPv6 takes no port but its protocol's number or 0.
      checked('sendto', sendTo(fd, bytes, bytes.length, 0, socketAddress(host, 0), SOCKADDR_BYTES))
    },
    receive() {
      const next = reading.then(read)
      reading = next
      return next
    },
    close() {
      isOpen = false
      void reading.then(() => closeSync(fd))
    },
  }
}

/** A socket of the address's family. */
function openSocket(netns: string, type: number, address: string, protocol = 0): number {
  const own = openSync('/proc/thread-self/ns/net', 'r')
  const other = openSync(netns, 'r')
  try {
    checked('setns', setns(other, CLONE_NEWNET))
    try {
      return checked('socket', makeSocket(familyOf(address), type | SOCK_CLOEXEC, protocol))
    } finally {
      checked('setns', setns(own, CLONE_NEWNET))
    }
  } finally {
    closeSync(own)
    closeSync(other)
  }
}

function boundSocket(netns: string, type: number, address: string): number {
  const fd = openSocket(netns, type, address)
  checked('bind', bind(fd, socketAddress(address, 0), SOCKADDR_BYTES))
  return fd
}

function socketAddress(host: string, port: number): Uint8Array {
  const bytes = new Uint8Array(SOCKADDR_BYTES)
  const view = new DataView(bytes.buffer)
  const address = addressBytes(host)
  view.setUint16(0, familyOf(host), true)
  view.setUint16(2, port)
  bytes.set(address, address.length === 4 ? ADDRESS_AT[4] : ADDRESS_AT[16])
  return bytes
}

function checked(what: string, result: number): number {
  if (result < 0) throw new Error(`${what}: errno ${koffi.errno()}`)
  return result
}
