/**
 * Namespaces for tests of kernel drivers: a node that forwards between clients and tasks, as the
 * data plane would. Tasks' answers pass the node, so nothing needs to hide an address.
 *
 *     client 10.9.0.2 ── 10.9.0.1 node 10.32.<n>.1 ── 10.32.<n>.2 task n
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Stage } from '../conformance-peers.ts'
import type { Native } from '../netlink/native.ts'
import { netnsPlace } from './netns-sockets.ts'

// A worker that ends by itself takes native parts down one by one, which once never ended (Node's
// `CleanupHandles`); `exit` inside of exit skips that.
process.once('exit', (code) => process.exit(code))

const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
/** Address of the node for clients. */
export const NODE_ADDRESS = '10.9.0.1'
/** Range of virtual addresses, delivered locally on the node. */
const VIRTUAL_RANGE = '10.96.0.0/16'

/** A stage in the kernel, and what only tests of drivers need of it. */
export interface KernelStage extends Stage {
  /** Path of the node's namespace, where the driver works. */
  readonly netns: string
  /** Path of the clients' namespace. */
  readonly clientNetns: string
  /** Output of a shell command in the node's namespace. */
  readonly run: (command: string) => string
  readonly remove: () => Promise<void>
}

/** Makes a node with a client and `tasks` places for tasks. */
export async function makeKernelStage(native: Native, tasks: number): Promise<KernelStage> {
  const folder = mkdtempSync(join(tmpdir(), 'skein-stage-'))
  const made: string[] = []
  const makeNetns = async (name: string): Promise<string> => {
    const path = join(folder, name)
    await native.createNetns(path)
    made.push(path)
    return path
  }
  const node = await makeNetns('node')
  runIn(node, 'ip link set lo up && echo 1 > /proc/sys/net/ipv4/ip_forward')
  const join24 = async (name: string, prefix: string): Promise<string> => {
    const path = await makeNetns(name)
    runIn(node, `ip link add ${name} type veth peer name eth0 netns ${path}`)
    runIn(node, `ip addr add ${prefix}.1/24 dev ${name} && ip link set ${name} up`)
    runIn(path, `ip link set lo up; ip addr add ${prefix}.2/24 dev eth0; ip link set eth0 up`)
    runIn(path, `ip route add default via ${prefix}.1`)
    return path
  }
  const client = await join24('client', '10.9.0')
  runIn(node, `ip route replace local ${VIRTUAL_RANGE} dev lo src ${NODE_ADDRESS}`)
  const backends = []
  for (let index = 0; index < tasks; index += 1) {
    const prefix = `10.32.${index}`
    backends.push(netnsPlace(await join24(`task${index}`, prefix), `${prefix}.2`))
  }
  return {
    driver: 'kernel',
    listenAddress: '0.0.0.0',
    clients: { ...netnsPlace(client, '10.9.0.2'), dialAddress: NODE_ADDRESS },
    backends,
    netns: node,
    clientNetns: client,
    run: (command) => runIn(node, command),
    async remove() {
      for (const path of made) await native.removeNetns(path)
      rmSync(folder, { recursive: true })
    },
  }
}

function runIn(netns: string, command: string): string {
  return execFileSync('nsenter', [`--net=${netns}`, 'sh', '-c', command], {
    encoding: 'utf8',
    env: { PATH: SYSTEM_PATH },
  })
}
