/**
 * Where requests go through: a client, a node that forwards, three backends, each in a network
 * namespace of its own (`kernel-stage.ts`); one server process listens in all three. Ports and
 * TIME_WAIT are widened and shortened: else the second of two windows of new connections measures
 * how long the kernel searches for a free port.
 */
import { execFileSync, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { loadNative } from '../../src/network/netlink/native.ts'
import type { Native } from '../../src/network/netlink/native.ts'
import type { VirtualServer } from '../../src/network/ports.ts'
import { makeKernelStage } from '../../src/network/testing/kernel-stage.ts'
import type { KernelStage } from '../../src/network/testing/kernel-stage.ts'
import { DAEMON_OPTIONS } from './daemon-options.ts'
import type { ProxyOrder, ProxyState } from './proxy.ts'

const BACKENDS = 3
/** Where backends serve. */
export const TARGET_PORT = 8_080

const CLIENT_SETTINGS = [
  'net/ipv4/ip_local_port_range=1024 65535',
  'net/ipv4/tcp_max_tw_buckets=64',
  'net/ipv4/tcp_fin_timeout=1',
]
/** Only where connections are tracked; others lack the file. */
const NODE_SETTINGS = [
  ...CLIENT_SETTINGS,
  'net/netfilter/nf_conntrack_tcp_timeout_time_wait=1',
  'net/netfilter/nf_conntrack_tcp_timeout_close=1',
]

/** The namespaces and the backends in them. */
export interface Site {
  readonly native: Native
  readonly stage: KernelStage
  /** Connections that each backend has accepted. */
  readonly accepted: () => Promise<readonly number[]>
  readonly remove: () => Promise<void>
}

/** Compiles the backend, makes the namespaces, starts it. */
export async function makeSite(): Promise<Site> {
  const load = loadNative()
  if (load.type === 'absent') throw new Error(load.reason)
  const folder = mkdtempSync(join(tmpdir(), 'skein-bench-network-'))
  const program = join(folder, 'backend')
  execFileSync('cc', ['-O2', '-o', program, join(import.meta.dirname, 'backend.c')])
  const stage = await makeKernelStage(load.native, BACKENDS)
  const places = Array.from({ length: BACKENDS }, (_unused, index) =>
    join(dirname(stage.netns), `task${index}`),
  )
  for (const netns of [stage.clientNetns, ...places]) setIn(netns, CLIENT_SETTINGS)
  setIn(stage.netns, NODE_SETTINGS)
  const backend = start([program, String(TARGET_PORT), ...places], ['ignore', 'pipe', 'inherit'])
  const { stdout } = backend
  if (stdout === null) throw new Error('backend: has no output')
  const lines = createInterface({ input: stdout })[Symbol.asyncIterator]()
  const nextLine = async (): Promise<readonly number[]> =>
    String((await lines.next()).value)
      .trim()
      .split(' ')
      .map(Number)
  if ((await nextLine()).length !== BACKENDS) throw new Error('backend: did not start')
  return {
    native: load.native,
    stage,
    accepted: () => {
      backend.kill('SIGUSR1')
      return nextLine()
    },
    async remove() {
      await stop(backend)
      await stage.remove()
      rmSync(folder, { recursive: true })
    },
  }
}

/** A published port of the node with all backends behind it. */
export function publishedPort(port: number): VirtualServer {
  const backends = Array.from({ length: BACKENDS }, (_unused, index) => ({
    taskId: `task${index}`,
    nodeId: 'node',
    local: true,
    address: `10.32.${index}.2`,
    port: TARGET_PORT,
    weight: 1,
  }))
  return { id: `service/tcp/${port}`, protocol: 'tcp', address: '0.0.0.0', port, backends }
}

/** The userspace balancer in the node's namespace. */
export class Proxy {
  readonly process: ChildProcess

  private constructor(child: ChildProcess) {
    this.process = child
  }

  static async start(stage: KernelStage, order: ProxyOrder): Promise<Proxy> {
    const program = join(import.meta.dirname, 'proxy.ts')
    const { PROXY_OPTIONS: more = '' } = process.env
    const options = [...DAEMON_OPTIONS, ...more.split(' ').filter((word) => word !== '')]
    const words = [process.execPath, ...options, program, JSON.stringify(order)]
    const child = startIn(stage.netns, words)
    await once(child, 'message')
    return new Proxy(child)
  }

  async state(): Promise<ProxyState> {
    const answer = once(this.process, 'message')
    this.process.send('state')
    const [state] = (await answer) as [ProxyState]
    return state
  }

  /** It exits when it is left alone. */
  async stop(): Promise<void> {
    const ended = once(this.process, 'exit')
    this.process.disconnect()
    await ended
  }
}

/** Starts a program in a namespace, with room for many files and a channel to this process. */
export function startIn(netns: string, words: readonly string[]): ChildProcess {
  return start(['nsenter', `--net=${netns}`, ...words], ['ignore', 'inherit', 'inherit', 'ipc'])
}

/** Ends a program and waits for it. */
export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
}

function start(
  words: readonly string[],
  stdio: ('ignore' | 'pipe' | 'inherit' | 'ipc')[],
): ChildProcess {
  // As many files as may be.
  return spawn('sh', ['-c', 'ulimit -n "$(ulimit -Hn)" && exec "$@"', 'sh', ...words], { stdio })
}

function setIn(netns: string, settings: readonly string[]): void {
  const commands = settings.map((setting) => {
    const [file = '', value = ''] = setting.split('=')
    return `[ ! -e /proc/sys/${file} ] || echo '${value}' > /proc/sys/${file}`
  })
  execFileSync('nsenter', [`--net=${netns}`, 'sh', '-c', commands.join('\n')])
}
