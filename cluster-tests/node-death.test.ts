/**
 * The end of a host under load, on the kernel's data plane: three hosts as network namespaces, and
 * clients outside that ask the two that stay, all the time until the lost replica has a successor.
 * Two kinds of client: one gives up after three seconds, as many do, one after eight.
 *
 * What happens when is logged in milliseconds after the cable was pulled; of what failed the
 * beginning, the length, and where the asked host's kernel had sent it.
 */
import { existsSync } from 'node:fs'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { systemClock } from '../src/base/clock.ts'
import { at } from '../src/base/assert.ts'
import { decodeConnection, dumpConnections, isAnswered } from '../src/network/netlink/conntrack.ts'
import type { Connection } from '../src/network/netlink/conntrack.ts'
import { loadNative } from '../src/network/netlink/native.ts'
import { NetlinkSocket } from '../src/network/netlink/socket.ts'
import { skeinOk, until } from './harness/daemon.ts'
import type { Daemon } from './harness/daemon.ts'
import { HostSwarm, TestHosts } from './harness/hosts.ts'
import { failureText, nowMs } from './harness/load.ts'
import type { LoadReport, LoadRequest } from './harness/load.ts'
import { startLoad } from './harness/load-process.ts'
import type { LoadProcess } from './harness/load-process.ts'
import { IMAGE, type TaskJson } from './harness/swarm.ts'
import { nodeIdOf } from './harness/web.ts'

const PORT = 8079
const CLIENT = 3
const DEAD = 2
const ASKED = [0, 1]
const REPLICAS = 3
/** A connection that is begun later than this finds a living replica. */
const TAKEN_MAX_MS = 2_000
const IMPATIENT = { name: 'impatient', limitMs: 3_000 } as const
/** The first packet is repeated after 1, 3 and 7 s, by newer kernels each second. */
const PATIENT = { name: 'patient', limitMs: 8_000 } as const
const PATIENCES = [IMPATIENT, PATIENT]
const CLIENTS = 3
const PAUSE_MS = 40
/** How long there is load when the successor runs. */
const AFTERWARDS_MS = 4_000
const LOOK_INTERVAL_MS = 500

const isPossible = process.getuid?.() === 0 && existsSync('/usr/sbin/nft')
const kernelTest = isPossible ? test.serial : test.serial.skip

/** Clients of one kind that ask one host. */
interface Asking {
  readonly host: number
  readonly patience: (typeof PATIENCES)[number]
  readonly load: LoadProcess
}

interface Report extends LoadReport {
  readonly host: number
  readonly patience: (typeof PATIENCES)[number]
}

kernelTest('a host that dies takes new connections for two seconds at most', async (t) => {
  using hosts = new TestHosts('skt-k', '172.31.79', CLIENT + 1)
  await using swarm = await HostSwarm.formed(hosts, CLIENT)
  const first = swarm.node(0)
  const create = ['service', 'create', '--detach', '--restart-delay', '0s', '--name', 'web']
  await skeinOk(
    first,
    ...[...create, '--publish', `${PORT}:80`, '--replicas', String(REPLICAS), IMAGE],
  )
  const before = await swarm.untilRunning(first, REPLICAS, 60_000)
  const deadId = await nodeIdOf(swarm.node(DEAD))
  t.is(before.filter((task) => task.NodeID === deadId).length, 1)
  await untilAllAnswer(hosts)

  const clients = startClients(hosts)
  await Promise.all(clients.map(({ load }) => load.begun))
  await pause(1_000)
  hosts.cable(DEAD, 'down')
  const deathMs = nowMs()
  const story = new Story(deathMs)
  const fates = new Fates(hosts)
  await untilReplaced(swarm, { deadId, before, story })
  await pause(AFTERWARDS_MS)
  await fates.stop()
  const reports = await Promise.all(
    clients.map(async ({ host, patience, load }) => ({ host, patience, ...(await load.stop()) })),
  )
  for (const index of ASKED) story.addReachability(swarm.node(index), deadId)
  for (const line of story.lines()) t.log(line)
  for (const report of reports) tell(t, { report, deathMs, fates })
  const texts = (failures: readonly LoadRequest[]): string[] =>
    failures.map((failure) => failureText(failure, deathMs))
  const failures = reports.flatMap((report) => report.failures)
  t.deepEqual(texts(failures.filter(({ beganMs }) => beganMs - deathMs > TAKEN_MAX_MS)), [])
  // What the lost replica had accepted and not answered ends with it.
  const wasOpen = ({ beganMs, connectedAfterMs }: LoadRequest): boolean =>
    connectedAfterMs !== undefined && beganMs < deathMs
  const patient = reports.filter(({ patience }) => patience === PATIENT)
  const unmoved = patient.flatMap((report) => report.failures.filter((one) => !wasOpen(one)))
  t.deepEqual(texts(unmoved), [], 'who waits for an answer finds another replica')
  for (const { requests } of reports) t.true(requests > 100)
  hosts.cable(DEAD, 'up')
  await swarm.untilReady(first, CLIENT)
})

function pause(ms: number): Promise<void> {
  return new Promise((done) => {
    systemClock.after(ms, done)
  })
}

function startClients(hosts: TestHosts): Asking[] {
  const wrapper = TestHosts.inside(at(hosts.names, CLIENT))
  return ASKED.flatMap((host) =>
    PATIENCES.map((patience) => {
      const options = { clients: CLIENTS, limitMs: patience.limitMs, pauseMs: PAUSE_MS }
      const load = startLoad({ wrapper, host: at(hosts.addresses, host), port: PORT, options })
      return { host, patience, load }
    }),
  )
}

/** Resolves when every replica answers through every host that is asked. */
async function untilAllAnswer(hosts: TestHosts): Promise<void> {
  await until('all replicas to answer through every host', () => {
    const seen = ASKED.map((host) => {
      const url = `http://${at(hosts.addresses, host)}:${PORT}/?[1-${4 * REPLICAS}]`
      const text = hosts.run(CLIENT, 'curl', '-s', '-m', '3', '-w', String.raw`\n`, url)
      return new Set(text.split('\n').filter((line) => line.trim() !== ''))
    })
    return Promise.resolve(seen.every(({ size }) => size === REPLICAS))
  })
}

/** Waits for the successor of the lost replica, and notes what is seen on the way. */
async function untilReplaced(
  swarm: HostSwarm,
  about: { readonly deadId: string; readonly before: readonly TaskJson[]; readonly story: Story },
): Promise<void> {
  const { deadId, before, story } = about
  const old = new Set(before.map((task) => task.ID))
  await until('the host to count as down', async () => {
    const nodes = await swarm.nodes(swarm.node(0))
    return nodes.find((node) => node.ID === deadId)?.Status.State === 'down'
  })
  story.add(nowMs(), 'the host counts as down')
  const successor = await until('a successor to run', async () => {
    const running = await swarm.running(swarm.node(0))
    return running.find((task) => !old.has(task.ID) && task.NodeID !== deadId)
  })
  story.add(nowMs(), `a successor runs on node ${successor.NodeID}`)
}

/** What happened when. */
class Story {
  readonly #beganMs: number
  readonly #events: { readonly ms: number; readonly text: string }[] = []

  constructor(beganMs: number) {
    this.#beganMs = beganMs
  }

  add(ms: number, text: string): void {
    this.#events.push({ ms, text })
  }

  /** What the daemon wrote in its log of its links to a node. */
  addReachability(daemon: Daemon, nodeId: string): void {
    for (const line of daemon.log().split('\n')) {
      if (!line.includes('peer reachability changed')) continue
      const { time, peer, reachable, via } = JSON.parse(line) as ReachabilityLine
      const ms = new Date(time).getTime()
      const way = via === undefined ? '' : `, through ${via}`
      const what = peer === nodeId ? 'the host' : `node ${peer}`
      const text = `${daemon.options.name}: ${what} is ${reachable ? '' : 'un'}reachable${way}`
      if (ms >= this.#beganMs) this.add(ms, text)
    }
  }

  lines(): string[] {
    const inOrder = this.#events.toSorted((a, b) => a.ms - b.ms)
    return inOrder.map(({ ms, text }) => `${Math.round(ms - this.#beganMs)} ms: ${text}`)
  }
}

interface ReachabilityLine {
  readonly time: string | number
  readonly peer: string
  readonly reachable: boolean
  readonly via?: string
}

/** Logs what clients went through. */
function tell(
  t: ExecutionContext,
  about: { readonly report: Report; readonly deathMs: number; readonly fates: Fates },
): void {
  const { report, deathMs, fates } = about
  const { host, patience, requests, failures, slowest, answers } = report
  const slowestMs = Math.round(slowest?.lastedMs ?? 0)
  const slowestAt = Math.round((slowest?.beganMs ?? 0) - deathMs)
  const counts = `${requests} requests, ${failures.length} failed`
  t.log(
    `host ${host + 1}, ${patience.name}: ${counts}, longest ${slowestMs} ms, begun at ${slowestAt} ms`,
  )
  for (const { answer, count, firstMs, lastMs } of answers) {
    const [from, to] = [firstMs - deathMs, lastMs - deathMs].map((ms) => Math.round(ms))
    t.log(`  ${count} × ${answer}, from ${from} to ${to} ms`)
  }
  for (const failure of failures) {
    t.log(`  ${failureText(failure, deathMs)}; ${fates.of(host, failure)}`)
  }
}

/** Where the kernels of the hosts that are asked sent connections, looked at every so often. */
class Fates {
  readonly #seen = new Map<string, string>()
  readonly #looking: Promise<void>
  #isStopped = false

  constructor(hosts: TestHosts) {
    this.#looking = this.#look(ASKED.map((host) => [host, at(hosts.names, host)] as const))
  }

  /** Of a request to a host. */
  of(host: number, { port }: LoadRequest): string {
    return this.#seen.get(`${host} ${port}`) ?? 'never seen in the kernel'
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    await this.#looking
  }

  async #look(hosts: readonly (readonly [number, string])[]): Promise<void> {
    const load = loadNative()
    if (load.type === 'absent') throw new Error(load.reason)
    while (!this.#isStopped) {
      for (const [host, name] of hosts) {
        const place = { protocol: 'netfilter', netns: `/run/netns/${name}` } as const
        await using socket = await NetlinkSocket.open(load.native, place)
        const messages = await socket.dump(dumpConnections({ family: 'ipv4' }))
        for (const message of messages) this.#note(host, decodeConnection(message))
      }
      await pause(LOOK_INTERVAL_MS)
    }
  }

  #note(host: number, { original, reply, status }: Connection): void {
    if (original.destinationPort !== PORT) return
    const way = `sent to ${reply.source}${isAnswered({ status }) ? ', which answered' : ''}`
    const key = `${host} ${original.sourcePort}`
    const before = this.#seen.get(key)
    if (before === undefined) this.#seen.set(key, way)
    else if (!before.endsWith(way)) this.#seen.set(key, `${before}, then ${way}`)
  }
}
