/**
 * A real partition: three hosts as network namespaces on one bridge, one of them cut off. The majority
 * goes on, the minority refuses writes and keeps its containers, and after healing all agree.
 */
import { execFileSync } from 'node:child_process'
import test from 'ava'
import { Daemon, skein, skeinOk, until } from './harness/daemon.ts'
import { IMAGE, TestSwarm } from './harness/swarm.ts'

const BRIDGE = 'skt-br'
const NAMES = ['skt-a', 'skt-b', 'skt-c']
const ADDRESSES = ['172.31.77.1', '172.31.77.2', '172.31.77.3']

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

function cut(index: number): void {
  ip('link', 'set', `${NAMES[index]}-0`, 'nomaster')
}

function heal(index: number): void {
  ip('link', 'set', `${NAMES[index]}-0`, 'master', BRIDGE)
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

test.serial(
  'a minority refuses writes and keeps its replicas; all agree after healing',
  async (t) => {
    makeHosts()
    t.teardown(removeHosts)
    await using swarm = new NamespaceSwarm()
    await swarm.start()
    await swarm.form(3)
    await swarm.loadImage()
    const first = swarm.node(0)
    await skeinOk(
      first,
      ...['service', 'create', '--detach', '--name', 'web', '--replicas', '3', IMAGE],
    )
    await swarm.untilRunning(first, 3)
    const leader = await swarm.leader()
    const index = swarm.daemons.indexOf(leader)
    const others = swarm.daemons.filter((daemon) => daemon !== leader)

    cut(index)
    const next = await swarm.leader(others)
    await skeinOk(next, 'service', 'scale', '--detach', 'web=4')
    const refused = await skein(leader, 'service', 'scale', '--detach', 'web=9')
    t.not(refused.code, 0)
    t.regex(refused.stderr, /does not have a leader|no answer from the leader/)
    await until('the majority to run four', async () => {
      const down = (await swarm.nodes(next)).find((node) => node.Status.State === 'down')
      const running = await swarm.running(next)
      return down !== undefined && running.filter((task) => task.NodeID !== down.ID).length === 4
    })
    const kept = await swarm.running(leader)
    const own = kept.filter((task) => task.Status.ContainerStatus !== undefined)
    t.true(own.length > 0, 'the node that is cut off keeps what it runs')

    heal(index)
    await swarm.untilReady(next, 3)
    await until('all nodes to see the same four replicas', async () => {
      const views = await Promise.all(swarm.daemons.map((daemon) => swarm.running(daemon)))
      const ids = views.map((tasks) =>
        tasks
          .map((task) => task.ID)
          .toSorted()
          .join(' '),
      )
      return views[0]?.length === 4 && new Set(ids).size === 1
    })
    t.is(
      JSON.parse(await skeinOk(leader, 'service', 'inspect', 'web'))[0].Spec.Mode.Replicated
        .Replicas,
      4,
    )
  },
)
