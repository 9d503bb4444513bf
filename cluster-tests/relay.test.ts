/**
 * A partial mesh of real daemons: three hosts as network namespaces on one bridge, and packets
 * between the first and the third are dropped. All that the two have for each other goes through
 * the second: votes, proposals, an image, a client's request; then the wire is mended.
 */
import { execFileSync } from 'node:child_process'
import test from 'ava'
import { Daemon, run, skeinOk, until } from './harness/daemon.ts'
import { nodeIdOf } from './harness/web.ts'
import { IMAGE, TestSwarm, type NodeJson } from './harness/swarm.ts'

const BRIDGE = 'skt-rbr'
const NAMES = ['skt-ra', 'skt-rb', 'skt-rc'] as const
const ADDRESSES = ['172.31.78.1', '172.31.78.2', '172.31.78.3'] as const
const PORT = 8078

function ip(...arguments_: readonly string[]): void {
  execFileSync('ip', arguments_, { stdio: ['ignore', 'ignore', 'pipe'] })
}

function tryIp(...arguments_: readonly string[]): void {
  try {
    ip(...arguments_)
  } catch {
    // Nothing to remove.
  }
}

function removeHosts(): void {
  for (const name of NAMES) {
    tryIp('netns', 'del', name)
    tryIp('link', 'del', `${name}-0`)
  }
  tryIp('link', 'del', BRIDGE)
}

/** The bridge has no address: the test machine itself is not on this network. */
function makeHosts(): void {
  removeHosts()
  ip('link', 'add', BRIDGE, 'type', 'bridge')
  ip('link', 'set', BRIDGE, 'up')
  for (const [index, name] of NAMES.entries()) {
    ip('netns', 'add', name)
    ip('link', 'add', `${name}-0`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
    ip('link', 'set', `${name}-0`, 'master', BRIDGE, 'up')
    ip('-n', name, 'addr', 'add', `${ADDRESSES[index]}/24`, 'dev', 'eth0')
    ip('-n', name, 'link', 'set', 'eth0', 'up')
    ip('-n', name, 'link', 'set', 'lo', 'up')
  }
}

function nft(name: string, ...arguments_: readonly string[]): void {
  // ava depends on a program of the same name, and npx puts it first.
  const env = { ...process.env, PATH: '/usr/sbin:/sbin:/usr/bin:/bin' }
  execFileSync('nsenter', [`--net=/run/netns/${name}`, 'nft', ...arguments_], { env })
}

/** The first and the third host drop each other's packets, as a firewall between them would. */
function cut(): void {
  for (const [name, other] of [
    [NAMES[0], ADDRESSES[2]],
    [NAMES[2], ADDRESSES[0]],
  ] as const) {
    nft(name, 'add', 'table', 'inet', 'wall')
    nft(name, 'add chain inet wall in { type filter hook input priority 0; }')
    nft(name, 'add chain inet wall out { type filter hook output priority 0; }')
    nft(name, `add rule inet wall in ip saddr ${other} drop`)
    nft(name, `add rule inet wall out ip daddr ${other} drop`)
  }
}

function mend(): void {
  for (const name of [NAMES[0], NAMES[2]]) nft(name, 'delete', 'table', 'inet', 'wall')
}

class NamespaceSwarm extends TestSwarm {
  override readonly daemons: readonly Daemon[]

  constructor() {
    super(0, 0)
    this.daemons = NAMES.map(
      (name, index) =>
        new Daemon({
          name: `n${index + 1}`,
          directory: this.directory,
          listenAddress: `${ADDRESSES[index]}:2377`,
          wrapper: ['nsenter', `--net=/run/netns/${name}`],
        }),
    )
  }
}

/** What the published port of a host answers to a client on that host. */
async function askOn(index: 0 | 2): Promise<string> {
  const url = `http://${ADDRESSES[index]}:${PORT}/`
  const script = `fetch(${JSON.stringify(url)}).then((r) => r.text()).then((t) => console.log(t.trim()))`
  const wrapped = [`--net=/run/netns/${NAMES[index]}`, process.execPath, '-e', script]
  const { code, stdout, stderr } = await run('nsenter', wrapped, { timeoutMs: 10_000 })
  if (code !== 0) throw new Error(`no answer on ${url}: ${stderr}`)
  return stdout.trim()
}

interface WayChange {
  readonly peer: string
  readonly reachable: boolean
  readonly via?: string
}

/** How a daemon reached another last, as it wrote in its log; undefined before it ever did. */
function lastWay(daemon: Daemon, peer: string): string | undefined {
  const changes = daemon
    .log()
    .split('\n')
    .filter((line) => line.includes('peer reachability changed'))
    .map((line) => JSON.parse(line) as WayChange)
    .filter((change) => change.peer === peer)
  const last = changes.at(-1)
  if (last === undefined) return undefined
  return last.reachable ? (last.via ?? 'direct') : 'none'
}

function allReady(nodes: readonly NodeJson[]): boolean {
  return nodes.length === 3 && nodes.every((node) => node.Status.State === 'ready')
}

test.serial(
  'two managers without a wire between them work through the third, and go back to the wire',
  async (t) => {
    makeHosts()
    t.teardown(removeHosts)
    await using swarm = new NamespaceSwarm()
    await swarm.start()
    await swarm.form(3)
    const [first, second, third] = [swarm.node(0), swarm.node(1), swarm.node(2)]
    const [firstId, secondId, thirdId] = await Promise.all([first, second, third].map(nodeIdOf))
    t.is(lastWay(first, thirdId ?? ''), 'direct')

    cut()
    const cutMs = Date.now()
    await until('both ends to go through the second host', () =>
      Promise.resolve(
        lastWay(first, thirdId ?? '') === secondId && lastWay(third, firstId ?? '') === secondId,
      ),
    )
    t.log(`relayed ${Date.now() - cutMs} ms after the packets were dropped`)
    // The relay has the image from neither end: it is only ever in the hands of the two.
    await skeinOk(second, 'node', 'update', '--availability', 'drain', secondId ?? '')
    await swarm.loadImage(first)
    await skeinOk(
      third,
      ...['service', 'create', '--detach', '--name', 'web', '--replicas', '2'],
      ...['--publish', `${PORT}:80`, '--restart-delay', '0s', IMAGE],
    )
    const tasks = await swarm.untilRunning(first, 2, 60_000)
    const nodes = tasks.map((task) => task.NodeID).toSorted()
    t.deepEqual(
      nodes,
      [firstId ?? '', thirdId ?? ''].toSorted(),
      'the image came through the relay',
    )

    await skeinOk(third, 'node', 'update', '--availability', 'active', secondId ?? '')
    await skeinOk(third, 'service', 'scale', '--detach', 'web=3')
    await swarm.untilRunning(third, 3, 60_000)
    for (const index of [0, 2] as const) {
      const seen = new Set<string>()
      await until(`all three replicas to answer on host ${index + 1}`, async () => {
        seen.add(await askOn(index))
        return seen.size === 3
      })
    }
    await swarm.leader()
    for (const daemon of swarm.daemons) t.true(allReady(await swarm.nodes(daemon)))

    mend()
    await until('both ends to go by the wire again', () =>
      Promise.resolve(
        lastWay(first, thirdId ?? '') === 'direct' && lastWay(third, firstId ?? '') === 'direct',
      ),
    )
    t.truthy(await askOn(0))
    await skeinOk(third, 'service', 'scale', '--detach', 'web=2')
    await swarm.untilRunning(first, 2)
  },
)
