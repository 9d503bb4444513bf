/**
 * A real partition: three hosts as network namespaces on one bridge, one of them cut off. The majority
 * goes on, the minority refuses writes and keeps its containers, and after healing all agree.
 */
import test from 'ava'
import { skein, skeinOk, until } from './harness/daemon.ts'
import { HostSwarm, TestHosts } from './harness/hosts.ts'
import { IMAGE } from './harness/swarm.ts'

test.serial(
  'a minority refuses writes and keeps its replicas; all agree after healing',
  async (t) => {
    using hosts = new TestHosts('skt-b', '172.31.77', 3)
    await using swarm = new HostSwarm(hosts)
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

    hosts.cable(index, 'down')
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

    hosts.cable(index, 'up')
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
