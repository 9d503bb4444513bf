/**
 * A partial mesh of real daemons: three hosts as network namespaces on one bridge, and packets
 * between the first and the third are dropped. All that the two have for each other goes through
 * the second: votes, proposals, an image, a client's request; then the wire is mended.
 */
import test from 'ava'
import { run, skeinOk, until } from './harness/daemon.ts'
import type { Daemon } from './harness/daemon.ts'
import { HostSwarm, TestHosts } from './harness/hosts.ts'
import { nodeIdOf } from './harness/web.ts'
import { IMAGE, type NodeJson } from './harness/swarm.ts'

const PORT = 8078

/** The first and the third host drop each other's packets, as a firewall between them would. */
function cut(hosts: TestHosts): void {
  for (const [host, other] of [
    [0, hosts.addresses[2]],
    [2, hosts.addresses[0]],
  ] as const) {
    hosts.run(host, 'nft', 'add', 'table', 'inet', 'wall')
    hosts.run(host, 'nft', 'add chain inet wall in { type filter hook input priority 0; }')
    hosts.run(host, 'nft', 'add chain inet wall out { type filter hook output priority 0; }')
    hosts.run(host, 'nft', `add rule inet wall in ip saddr ${other} drop`)
    hosts.run(host, 'nft', `add rule inet wall out ip daddr ${other} drop`)
  }
}

function mend(hosts: TestHosts): void {
  for (const host of [0, 2]) hosts.run(host, 'nft', 'delete', 'table', 'inet', 'wall')
}

/** What the published port of a host answers to a client on that host. */
async function askOn(hosts: TestHosts, index: 0 | 2): Promise<string> {
  const url = `http://${hosts.addresses[index]}:${PORT}/`
  const script = `fetch(${JSON.stringify(url)}).then((r) => r.text()).then((t) => console.log(t.trim()))`
  const [command = '', ...words] = [
    ...TestHosts.inside(hosts.names[index] ?? ''),
    ...[process.execPath, '-e', script],
  ]
  const { code, stdout, stderr } = await run(command, words, { timeoutMs: 10_000 })
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
    using hosts = new TestHosts('skt-r', '172.31.78', 3)
    await using swarm = new HostSwarm(hosts)
    await swarm.start()
    await swarm.form(3)
    const [first, second, third] = [swarm.node(0), swarm.node(1), swarm.node(2)]
    const [firstId, secondId, thirdId] = await Promise.all([first, second, third].map(nodeIdOf))
    t.is(lastWay(first, thirdId ?? ''), 'direct')

    cut(hosts)
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
        seen.add(await askOn(hosts, index))
        return seen.size === 3
      })
    }
    await swarm.leader()
    for (const daemon of swarm.daemons) t.true(allReady(await swarm.nodes(daemon)))

    mend(hosts)
    await until('both ends to go by the wire again', () =>
      Promise.resolve(
        lastWay(first, thirdId ?? '') === 'direct' && lastWay(third, firstId ?? '') === 'direct',
      ),
    )
    t.truthy(await askOn(hosts, 0))
    await skeinOk(third, 'service', 'scale', '--detach', 'web=2')
    await swarm.untilRunning(first, 2)
  },
)
