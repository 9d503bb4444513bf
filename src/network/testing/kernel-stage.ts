/**
 * Namespaces for tests of kernel drivers: a node that forwards between clients and tasks, as the
 * data plane would. Tasks' answers pass the node, so nothing needs to hide an address.
 *
 *     client 10.9.0.2 ── 10.9.0.1 node 10.32.<n>.1 ── 10.32.<n>.2 task n
 *         fd09::2         fd09::1      fd32:<n>::1     fd32:<n>::2
 *
 * What the node sends to 10.32.0.66 and fd32:0::66 arrives at task 0 with a foreign MAC: it
 * vanishes.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { NEIGHBOURS } from '../conformance-peers.ts'
import type { ClientPlace, Stage } from '../conformance-peers.ts'
import type { Native } from '../netlink/native.ts'
import { netnsPlace } from './netns-sockets.ts'

const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
/** Address of the node for clients. */
export const NODE_ADDRESS = '10.9.0.1'
export const NODE_ADDRESS_6 = 'fd09::1'
/** Ranges of virtual addresses, delivered locally on the node. */
const VIRTUAL_RANGE = '10.96.0.0/16'
const VIRTUAL_RANGE_6 = 'fd96::/64'
const SILENT = { ipv4: '10.32.0.66', ipv6: 'fd32:0::66', mac: '02:00:00:00:00:66' } as const

/** A stage in the kernel, and what only tests of drivers need of it. */
export interface KernelStage extends Stage {
  /** Path of the node's namespace, where the driver works. */
  readonly netns: string
  /** Path of the clients' namespace. */
  readonly clientNetns: string
  /** Paths of the tasks' namespaces. */
  readonly taskNetns: readonly string[]
  /** Output of a shell command in the node's namespace. */
  readonly run: (command: string) => string
  /** The same in IPv6. */
  readonly ipv6: Stage
  readonly remove: () => Promise<void>
}

/** Makes a node with a client and `tasks` places for tasks. */
export async function makeKernelStage(native: Native, tasks: number): Promise<KernelStage> {
  const spaces = new Namespaces(native)
  const node = await spaces.make('node')
  runIn(node, 'ip link set lo up && echo 1 > /proc/sys/net/ipv4/ip_forward')
  runIn(node, 'echo 1 > /proc/sys/net/ipv6/conf/all/forwarding')
  const client = await spaces.plug(node, { name: 'client', prefix: '10.9.0', prefix6: 'fd09' })
  runIn(node, `ip route replace local ${VIRTUAL_RANGE} dev lo src ${NODE_ADDRESS}`)
  runIn(node, `ip route replace local ${VIRTUAL_RANGE_6} dev lo src ${NODE_ADDRESS_6}`)
  const taskNetns: string[] = []
  const backends = []
  const backends6 = []
  for (let index = 0; index < tasks; index += 1) {
    const place = { name: `task${index}`, prefix: `10.32.${index}`, prefix6: `fd32:${index}` }
    const netns = await spaces.plug(node, place)
    taskNetns.push(netns)
    backends.push(netnsPlace(netns, `${place.prefix}.2`))
    backends6.push(netnsPlace(netns, `${place.prefix6}::2`))
  }
  for (const address of tasks === 0 ? [] : [SILENT.ipv4, SILENT.ipv6]) {
    runIn(node, `ip neigh replace ${address} lladdr ${SILENT.mac} dev task0 nud permanent`)
  }
  return {
    driver: 'kernel',
    listenAddress: '0.0.0.0',
    clients: { ...netnsPlace(client, '10.9.0.2'), dialAddress: NODE_ADDRESS },
    neighbours: addNeighbours(client, '10.9.0.N/24', NODE_ADDRESS),
    backends,
    silentAddress: SILENT.ipv4,
    ipv6: {
      driver: 'kernel',
      listenAddress: '::',
      clients: { ...netnsPlace(client, 'fd09::2'), dialAddress: NODE_ADDRESS_6 },
      neighbours: addNeighbours(client, 'fd09::N/64', NODE_ADDRESS_6),
      backends: backends6,
      silentAddress: SILENT.ipv6,
    },
    netns: node,
    clientNetns: client,
    taskNetns,
    run: (command) => runIn(node, command),
    remove: () => spaces.remove(),
  }
}

/** Namespaces of one stage. */
class Namespaces {
  readonly #native: Native
  readonly #folder = mkdtempSync(join(tmpdir(), 'skein-stage-'))
  readonly #made: string[] = []

  constructor(native: Native) {
    this.#native = native
  }

  async make(name: string): Promise<string> {
    const path = join(this.#folder, name)
    await this.#native.createNetns(path)
    this.#made.push(path)
    return path
  }

  /** Makes a namespace with a cable to the node, which is its gateway. */
  async plug(
    node: string,
    place: { readonly name: string; readonly prefix: string; readonly prefix6: string },
  ): Promise<string> {
    const { name, prefix, prefix6 } = place
    const path = await this.make(name)
    runIn(node, `ip link add ${name} type veth peer name eth0 netns ${path}`)
    runIn(node, `ip addr add ${prefix}.1/24 dev ${name} && ip link set ${name} up`)
    runIn(node, `ip addr add ${prefix6}::1/64 dev ${name} nodad`)
    runIn(path, `ip link set lo up; ip addr add ${prefix}.2/24 dev eth0; ip link set eth0 up`)
    runIn(path, `ip addr add ${prefix6}::2/64 dev eth0 nodad`)
    runIn(path, `ip route add default via ${prefix}.1; ip route add default via ${prefix6}::1`)
    return path
  }

  async remove(): Promise<void> {
    for (const path of this.#made) await this.#native.removeNetns(path)
    rmSync(this.#folder, { recursive: true })
  }
}

/** Gives a client more addresses, the N of the prefix being numbers. */
function addNeighbours(client: string, prefix: string, dialAddress: string): ClientPlace[] {
  const nodad = prefix.includes(':') ? 'nodad' : ''
  return Array.from({ length: NEIGHBOURS }, (_, index) => {
    const withLength = prefix.replace('N', String(20 + index))
    runIn(client, `ip addr add ${withLength} dev eth0 ${nodad}`)
    return { ...netnsPlace(client, withLength.split('/')[0] ?? ''), dialAddress }
  })
}

function runIn(netns: string, command: string): string {
  return execFileSync('nsenter', [`--net=${netns}`, 'sh', '-c', command], {
    encoding: 'utf8',
    env: { PATH: SYSTEM_PATH },
  })
}
