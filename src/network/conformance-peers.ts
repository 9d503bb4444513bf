/**
 * The clients and backends of the load balancer conformance suite: real sockets that speak a
 * protocol of lines. A backend answers each line with its name. They are on loopback, or in network
 * namespaces around the node whose kernel balances.
 */
import { createSocket } from 'node:dgram'
import type { Socket as DatagramSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer, isIPv6 } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import { duplexPair } from 'node:stream'
import type { Duplex } from 'node:stream'
import type { Backend, RemoteConnection, VirtualServer } from './ports.ts'
import { resetSocket } from './userspace/relay.ts'

/** Where everything in the suite listens, unless a {@link Stage} says otherwise. */
export const LOOPBACK = '127.0.0.1'
/** The same in IPv6. */
export const LOOPBACK_6 = '::1'
/** How many clients a stage has beside the first. */
export const NEIGHBOURS = 16

/** Where sockets can be. */
export interface Place {
  /** Address by which the node reaches peers here. */
  readonly address: string
  /** Listens on a free port. */
  listen(server: Server): Promise<void>
  /** Binds to a free port. */
  bind(socket: DatagramSocket): Promise<void>
  /** Opens a connection whose ends close apart. @throws when it is refused */
  connect(port: number, host: string): Promise<Socket>
}

/** Where clients are, and whom they ask. */
export interface ClientPlace extends Place {
  readonly dialAddress: string
}

/** What is around a driver. */
export interface Stage {
  /**
   * `sockets`: the driver listens in this process and sees every byte. `kernel`: it programs a
   * kernel; what it does has happened when `apply` resolves, and a connection that ended shows that
   * at its next byte.
   */
  readonly driver: 'sockets' | 'kernel'
  /** Address of virtual servers. */
  readonly listenAddress: string
  readonly clients: ClientPlace
  /** {@link NEIGHBOURS} clients, each with an address of its own; none where there can be none. */
  readonly neighbours: readonly ClientPlace[]
  /** Backends go here in turn. */
  readonly backends: readonly Place[]
  /** Address of a host that is gone: what is sent there vanishes. Of kernels alone. */
  readonly silentAddress?: string
}

/** Sockets of this process; clients come from `address`. */
function loopbackPlace(address: string, dialAddress = address): ClientPlace {
  return {
    address,
    dialAddress,
    async listen(server) {
      server.listen(0, address)
      await once(server, 'listening')
    },
    async bind(socket) {
      socket.bind(0, address)
      await once(socket, 'listening')
    },
    async connect(port, host) {
      const socket = connect({ host, port, localAddress: address, allowHalfOpen: true })
      await once(socket, 'connect')
      return socket
    },
  }
}

const ON_LOOPBACK = loopbackPlace(LOOPBACK)
const ON_LOOPBACK_6 = loopbackPlace(LOOPBACK_6)

/** Everything on loopback, for drivers with sockets. */
export const LOOPBACK_STAGE: Stage = {
  driver: 'sockets',
  listenAddress: LOOPBACK,
  clients: ON_LOOPBACK,
  neighbours: Array.from({ length: NEIGHBOURS }, (_, index) =>
    loopbackPlace(`127.9.0.${20 + index}`, LOOPBACK),
  ),
  backends: [ON_LOOPBACK],
}

/** The same in IPv6, whose loopback has one address only. */
export const LOOPBACK_STAGE_6: Stage = {
  driver: 'sockets',
  listenAddress: LOOPBACK_6,
  clients: ON_LOOPBACK_6,
  neighbours: [],
  backends: [ON_LOOPBACK_6],
}

/** Longest wait for a condition, milliseconds. */
const DEADLINE_MS = 10_000

/** How often a condition is looked at, milliseconds. */
const POLL_MS = 5

/** Resolves when `condition` holds. @throws when it does not within the deadline */
export async function until(what: string, condition: () => boolean): Promise<void> {
  const endMs = performance.now() + DEADLINE_MS
  while (!condition()) {
    if (performance.now() > endMs) throw new Error(`timed out: ${what}`)
    await pause(POLL_MS)
  }
}

/** Resolves after `ms`. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms)
  })
}

/** The value of `progress` once it has not changed for a while. */
export async function stalled(progress: () => number): Promise<number> {
  let last = -1
  await until('it starts', () => progress() > 0)
  while (progress() !== last) {
    last = progress()
    await pause(300)
  }
  return last
}

/** A backend that runs `onClient` for each connection. */
export class TestBackend {
  readonly name: string
  readonly address: string
  readonly port: number
  readonly sockets = new Set<Socket>()
  readonly #server: Server

  private constructor(name: string, server: Server, address: string) {
    this.name = name
    this.address = address
    this.port = portOf(server)
    this.#server = server
  }

  static async start(
    name: string,
    onClient = answerLines,
    place: Place = ON_LOOPBACK,
  ): Promise<TestBackend> {
    const server = createServer({ allowHalfOpen: true })
    await place.listen(server)
    const backend = new TestBackend(name, server, place.address)
    server.on('connection', (socket) => {
      backend.sockets.add(socket)
      socket.on('error', () => {})
      socket.once('close', () => backend.sockets.delete(socket))
      onClient(socket, name)
    })
    return backend
  }

  /** As a backend of a virtual server. */
  backend(weight = 1): Backend {
    const { name: taskId, address, port } = this
    return { taskId, nodeId: 'here', local: true, address, port, weight }
  }

  /** Dies: the port closes and every connection is reset. */
  stop(): void {
    this.#server.close()
    for (const socket of this.sockets) resetSocket(socket)
  }
}

/** Answers each line with the backend's name; ends when the client has ended. */
export function answerLines(socket: Socket, name: string): void {
  let rest = ''
  socket.setEncoding('utf8')
  socket.on('data', (text) => {
    const lines = (rest + String(text)).split('\n')
    rest = lines.pop() ?? ''
    for (const _ of lines) socket.write(`${name}\n`)
  })
  socket.on('end', () => socket.end())
}

/** A virtual server. */
export function virtualServer(
  port: number,
  backends: readonly Backend[],
  protocol: 'tcp' | 'udp' | 'sctp' = 'tcp',
  address: string = LOOPBACK,
): VirtualServer {
  return { id: `service/${protocol}/${port}`, protocol, address, port, backends }
}

/** A TCP port of loopback that nobody listens on now. */
export async function freePort(): Promise<number> {
  const server = createServer()
  server.listen(0, LOOPBACK)
  await once(server, 'listening')
  const port = portOf(server)
  server.close()
  await once(server, 'close')
  return port
}

function portOf(server: Server): number {
  const address: AddressInfo | string | null = server.address()
  if (address === null || typeof address === 'string') throw new Error('server: has no port')
  return address.port
}

/** A client connection, open, with what it has received. */
export class TestClient {
  readonly socket: Socket
  /** Bytes so far, as text. */
  text = ''
  ended = false
  closed = false

  private constructor(socket: Socket) {
    this.socket = socket
    socket.on('error', () => {})
    socket.once('close', () => {
      this.closed = true
    })
  }

  static async open(
    port: number,
    options: { readonly read?: boolean; readonly from?: ClientPlace } = {},
  ): Promise<TestClient> {
    const from = options.from ?? ON_LOOPBACK
    const socket = await from.connect(port, from.dialAddress)
    const client = new TestClient(socket)
    socket.on('end', () => {
      client.ended = true
    })
    if (options.read !== false) {
      socket.on('data', (chunk) => {
        client.text += String(chunk)
      })
    }
    return client
  }

  /** Sends a line and gives the answer. @throws when the connection closes first */
  async ask(): Promise<string> {
    const before = this.text.length
    this.socket.write('who\n')
    await until('an answer', () => this.text.includes('\n', before) || this.ended || this.closed)
    const answer = this.text.slice(before)
    if (!answer.endsWith('\n')) throw new Error('connection closed before the answer')
    return answer.trimEnd()
  }
}

/** One request on a connection of its own. @throws when there is no answer */
export async function ask(port: number, from: ClientPlace = ON_LOOPBACK): Promise<string> {
  const client = await TestClient.open(port, { from })
  try {
    return await client.ask()
  } finally {
    client.socket.destroy()
  }
}

/** How often each name answered, over `count` requests in turn. */
export async function census(
  port: number,
  count: number,
  from: ClientPlace = ON_LOOPBACK,
): Promise<Map<string, number>> {
  const answers = new Map<string, number>()
  for (let i = 0; i < count; i += 1) {
    const name = await ask(port, from)
    answers.set(name, (answers.get(name) ?? 0) + 1)
  }
  return answers
}

function datagramSocket({ address }: Place): DatagramSocket {
  return createSocket(isIPv6(address) ? 'udp6' : 'udp4')
}

/** A UDP backend that answers every datagram with its name and the datagram. */
export async function udpBackend(
  name: string,
  place: Place = ON_LOOPBACK,
): Promise<{ readonly backend: Backend; close(): void }> {
  const socket = datagramSocket(place)
  socket.on('message', (text, from) =>
    socket.send(`${name} ${String(text)}`, from.port, from.address),
  )
  await place.bind(socket)
  const { port } = socket.address()
  const { address } = place
  const backend = { taskId: name, nodeId: 'here', local: true, address, port, weight: 1 }
  return { backend, close: () => socket.close() }
}

/** A UDP client. */
export interface DatagramClient {
  /** Sends and waits for an answer. */
  ask(text: string): Promise<string>
  send(text: string): void
  close(): void
}

/** A UDP client with a port of its own, which asks one question at a time. */
export async function datagramClient(
  port: number,
  from: ClientPlace = ON_LOOPBACK,
): Promise<DatagramClient> {
  const socket = datagramSocket(from)
  // Refused is one way of having no answer.
  socket.on('error', () => {})
  await from.bind(socket)
  socket.connect(port, from.dialAddress)
  await once(socket, 'connect')
  return {
    async ask(text) {
      let answer: string | undefined
      socket.once('message', (datagram) => {
        answer = String(datagram)
      })
      socket.send(text)
      await until('a datagram', () => answer !== undefined)
      return answer ?? ''
    },
    send: (text) => socket.send(text),
    close: () => socket.close(),
  }
}

/** A duplex stream in the shape of the mesh's. */
export function connectionOf(stream: Duplex): RemoteConnection {
  stream.on('error', () => {})
  return {
    // A plain iteration would destroy the stream, and with it the other direction, at its end.
    source: { [Symbol.asyncIterator]: () => stream.iterator({ destroyOnReturn: false }) },
    async write(chunk) {
      if (stream.destroyed) throw new Error('stream: reset')
      if (!stream.write(chunk)) await once(stream, 'drain')
    },
    end: () =>
      new Promise((resolve) => {
        stream.end(() => resolve())
      }),
    abort: (reason) => stream.destroy(reason),
  }
}

/** Both ends of a stream between two nodes; breaking one breaks the other. */
export function connectionPair(): readonly [RemoteConnection, RemoteConnection] {
  const [near, far] = duplexPair()
  near.once('close', () => far.destroy(near.errored ?? undefined))
  far.once('close', () => near.destroy(far.errored ?? undefined))
  return [connectionOf(near), connectionOf(far)]
}
