/**
 * A node with three replicas and a client outside, each in a network namespace: the node routes
 * between them, so IPVS sees both directions. Addresses are the same in every topology, so two of
 * them are two nodes of one cluster with the same replicas.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { ipv6Of } from '../../src/store/ipv6.ts'
import type { Backend, VirtualServer } from '../../src/network/ports.ts'
import { freshNamespace, within } from './case.ts'
import type { PeerRequest } from './peer.ts'

/** First bytes of all IPv6 addresses. */
export const IPV6_PREFIX = 'fd12:3456::'
/** Where the node answers for the client. */
export const NODE_ADDRESS = '10.1.0.1'
/** Range of virtual addresses. */
const VIRTUAL_RANGE = '10.96.0.0'
/** Where replicas serve. */
export const TARGET_PORT = 8_080
/** Addresses of the client, one after another. */
export const CLIENT_ADDRESSES: readonly string[] = Array.from(
  { length: 24 },
  (_unused, index) => `10.1.0.${10 + index}`,
)

/** The IPv6 address that goes with an IPv4 address. */
export function v6(address: string): string {
  return ipv6Of(IPV6_PREFIX, address)
}

/** The server, and the same in IPv6. */
export function bothFamilies(server: VirtualServer): VirtualServer[] {
  const { id, protocol, backends } = server
  const address = protocol === 'any' ? v6(server.address) : '::'
  const six = backends.map((each) => ({ ...each, address: v6(each.address) }))
  return [server, { ...server, id: `${id}/ipv6`, address, backends: six }]
}

/** A namespace with a {@link PeerRequest} program in it. */
export class Peer {
  readonly netns: string
  readonly #process: ChildProcess
  #requests = 0

  constructor(netns: string) {
    this.netns = netns
    const words = [`--net=${netns}`, process.execPath, join(import.meta.dirname, 'peer.ts')]
    this.#process = spawn('nsenter', words, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    this.#process.setMaxListeners(100)
  }

  async ready(): Promise<void> {
    await once(this.#process, 'message')
  }

  /** Ends the program. */
  end(): void {
    this.#process.kill()
  }

  /** What the peer answers. */
  ask(request: PeerRequest): Promise<string> {
    this.#requests += 1
    const id = this.#requests
    return new Promise((resolve) => {
      const onMessage = (message: unknown): void => {
        const answer = message as { id: number; text: string }
        if (answer.id !== id) return
        this.#process.off('message', onMessage)
        resolve(answer.text)
      }
      this.#process.on('message', onMessage)
      this.#process.send({ id, request })
    })
  }
}

/** A node, its replicas `a`, `b`, `c`, and a client. */
export class Topology {
  /** The node's namespace. */
  readonly node: string
  /** A program on the node itself. */
  readonly self: Peer
  readonly client: Peer
  readonly replicas: readonly Peer[]

  private constructor(node: string) {
    this.node = node
    layOutNode(node)
    this.replicas = ['a', 'b', 'c'].map((name) => {
      const netns = freshNamespace()
      connect(node, netns, `to-${name}`)
      within(node, `ip link set to-${name} master br0`)
      giveAddress(netns, replicaAddress(name), '10.32.0.1')
      return new Peer(netns)
    })
    const outside = freshNamespace()
    connect(node, outside, 'to-client')
    within(
      node,
      `ip addr add 10.1.0.1/24 dev to-client; ip addr add ${v6('10.1.0.1')}/120 dev to-client nodad`,
    )
    within(outside, CLIENT_ADDRESSES.map((each) => `ip addr add ${each}/24 dev eth0`).join('\n'))
    giveAddress(outside, '10.1.0.2', '10.1.0.1')
    this.client = new Peer(outside)
    this.self = new Peer(node)
  }

  /** Lays the wires and starts the programs; `node` is a namespace's path. */
  static async start(node = freshNamespace()): Promise<Topology> {
    const topology = new Topology(node)
    const { replicas, client, self } = topology
    await Promise.all([...replicas, client, self].map((peer) => peer.ready()))
    await Promise.all(
      replicas.map((peer, index) =>
        peer.ask({ type: 'serve', name: 'abc'.charAt(index), port: TARGET_PORT }),
      ),
    )
    return topology
  }
}

/** A replica as a backend; port 0 is for virtual addresses. */
export function backend(name: string, weight = 1, port = TARGET_PORT): Backend {
  return { taskId: name, nodeId: 'n', local: true, address: replicaAddress(name), port, weight }
}

function replicaAddress(name: string): string {
  return `10.32.0.${11 + 'abc'.indexOf(name)}`
}

function layOutNode(node: string): void {
  within(
    node,
    `sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 \
       net.ipv4.conf.default.rp_filter=0
     ip link add br0 type bridge; ip link set br0 up
     ip addr add 10.32.0.1/24 dev br0; ip addr add ${v6('10.32.0.1')}/120 dev br0 nodad
     ip route add local ${VIRTUAL_RANGE}/16 dev lo src 10.32.0.1
     ip -6 route add local ${v6(VIRTUAL_RANGE)}/112 dev lo`,
  )
}

/** A wire from the node's device `name` to `eth0` in another namespace. */
function connect(node: string, netns: string, name: string): void {
  const inside = netns.split('/').at(-1) ?? ''
  within(
    node,
    `ip link add ${name} type veth peer name eth0 netns ${inside}
     sysctl -qw net.ipv6.conf.${name}.accept_dad=0
     ip link set ${name} up`,
  )
  within(netns, 'sysctl -qw net.ipv6.conf.eth0.accept_dad=0; ip link set eth0 up')
}

/** Gives `eth0` an address of both families and a way out. */
function giveAddress(netns: string, own: string, gateway: string): void {
  within(
    netns,
    `ip addr add ${own}/24 dev eth0 2>/dev/null; ip addr add ${v6(own)}/120 dev eth0 nodad
     ip route add default via ${gateway}; ip -6 route add default via ${v6(gateway)}`,
  )
}
