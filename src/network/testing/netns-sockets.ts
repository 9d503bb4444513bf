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
import { addressBytes, familyOf } from '../netlink/address.ts'

const CLONE_NEWNET = 0x4000_0000
const SOCK_STREAM = 1
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
const SOL_SOCKET = 1
const SO_SNDTIMEO = 21
const CONNECT_TIMEOUT_S = 5
/** Of `sockaddr_in6`; the kernel reads as many of it as the family has. */
const SOCKADDR_BYTES = 28
const ADDRESS_AT = { 4: 4, 16: 8 } as const

type Call = (...values: readonly (number | Uint8Array)[]) => number

const library = koffi.load(null)
const setns = library.func('int setns(int fd, int type)') as Call
const makeSocket = library.func('int socket(int family, int type, int protocol)') as Call
const bind = library.func('int bind(int fd, const uint8_t *address, uint32_t bytes)') as Call
const setOption = library.func(
  'int setsockopt(int fd, int level, int name, const uint8_t *value, uint32_t bytes)',
) as Call
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

/** A socket of the address's family. */
function openSocket(netns: string, type: number, address: string): number {
  const own = openSync('/proc/thread-self/ns/net', 'r')
  const other = openSync(netns, 'r')
  try {
    checked('setns', setns(other, CLONE_NEWNET))
    try {
      return checked('socket', makeSocket(familyOf(address), type | SOCK_CLOEXEC, 0))
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
