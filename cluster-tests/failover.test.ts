/** Daemons die, singly and all at once; services and what was promised stay. */
import test from 'ava'
import { skein, skeinOk, until } from './harness/daemon.ts'
import { answers, fetchText } from './harness/http.ts'
import { TestSwarm } from './harness/swarm.ts'
import { createWeb, nodeIdOf, pids } from './harness/web.ts'

test.serial('a published port answers on every node and spreads over all replicas', async (t) => {
  await using swarm = new TestSwarm(3, 21)
  await swarm.start()
  await swarm.form(1)
  const tasks = await createWeb(swarm, 3, 8021)
  t.is(new Set(tasks.map((task) => task.NodeID)).size, 3, 'one replica a node')
  for (const daemon of swarm.daemons) {
    await until(`three replicas through ${daemon.host}`, async () => {
      return (await answers(daemon.host, 8021, 6)).size === 3
    })
  }
})

test.serial('the leader is killed: another leads, writes go on, its replica returns', async (t) => {
  await using swarm = new TestSwarm(3, 22)
  await swarm.start()
  await swarm.form(3)
  await createWeb(swarm, 3, 8022)
  const leader = await swarm.leader()
  await leader.kill('SIGKILL')
  const survivors = swarm.daemons.filter((daemon) => daemon !== leader)
  const next = await swarm.leader(survivors)
  await skeinOk(next, 'service', 'scale', '--detach', 'web=4')
  const deadId = await until('the dead node to be seen', async () => {
    return (await swarm.nodes(next)).find((node) => node.Status.State === 'down')?.ID
  })
  await until('four replicas on the survivors', async () => {
    const running = await swarm.running(next)
    return running.filter((task) => task.NodeID !== deadId).length === 4
  })
  await leader.start()
  await swarm.untilReady(next, 3)
  await swarm.untilRunning(leader, 4)
  t.pass()
})

test.serial('a worker is killed: its replicas run elsewhere within 20 s', async (t) => {
  await using swarm = new TestSwarm(3, 23)
  await swarm.start()
  await swarm.form(1)
  await createWeb(swarm, 3, 8023)
  const victim = swarm.node(2)
  const victimId = await nodeIdOf(victim)
  const killedAt = performance.now()
  await victim.kill('SIGKILL')
  await until('replicas elsewhere', async () => {
    const running = await swarm.running(swarm.node(0))
    return running.length === 3 && running.every((task) => task.NodeID !== victimId)
  })
  const seconds = (performance.now() - killedAt) / 1000
  t.log(`replaced after ${seconds.toFixed(1)} s`)
  t.true(seconds < 20)
  await victim.start()
  await swarm.untilReady(swarm.node(0), 3)
  await until('the victim to stop what was replaced', async () => {
    const tasks = (await swarm.tasks(swarm.node(0))).filter((task) => task.NodeID === victimId)
    return tasks.every((task) => task.Status.State !== 'running')
  })
})

test.serial('a daemon crash touches no container; the new daemon adopts them', async (t) => {
  await using swarm = new TestSwarm(1, 24)
  await swarm.start()
  await swarm.form(1)
  const [daemon] = swarm.daemons
  if (daemon === undefined) return
  const before = pids(await createWeb(swarm, 3, 8024))
  await daemon.kill('SIGKILL')
  for (const pid of before) t.notThrows(() => process.kill(pid, 0), 'the container goes on')
  await daemon.start()
  await until('an answer', () => fetchText(daemon.host, 8024))
  const after = pids(await swarm.untilRunning(daemon, 3))
  t.deepEqual(after, before)
  process.kill(after[0] ?? 0, 'SIGKILL')
  await until('the death to be seen and mended', async () => {
    const running = await swarm.running(daemon)
    return running.length === 3 && !pids(running).includes(after[0] ?? 0)
  })
})

test.serial('all daemons are killed at once: same nodes, services, tokens, replicas', async (t) => {
  await using swarm = new TestSwarm(3, 25)
  await swarm.start()
  await swarm.form(3)
  await createWeb(swarm, 3, 8025)
  const first = swarm.node(0)
  const facts = async (): Promise<object> => ({
    nodes: (await swarm.nodes(first)).map((node) => node.ID),
    services: await skeinOk(first, 'service', 'ls', '--quiet'),
    worker: await skeinOk(first, 'swarm', 'join-token', '--quiet', 'worker'),
    manager: await skeinOk(first, 'swarm', 'join-token', '--quiet', 'manager'),
  })
  const before = await facts()
  await Promise.all(swarm.daemons.map((daemon) => daemon.kill('SIGKILL')))
  for (const pid of swarm.containerPids()) process.kill(pid, 'SIGKILL')
  await swarm.start()
  await swarm.leader()
  t.deepEqual(await facts(), before)
  await swarm.untilRunning(first, 3)
  for (const daemon of swarm.daemons) {
    await until('an answer', () => fetchText(daemon.host, 8025))
  }
})

test.serial('without a quorum a write fails with the reason, and reads go on', async (t) => {
  await using swarm = new TestSwarm(3, 26)
  await swarm.start()
  await swarm.form(3)
  await createWeb(swarm, 2, 8026)
  await swarm.node(1).kill('SIGKILL')
  await swarm.node(2).kill('SIGKILL')
  const first = swarm.node(0)
  const refused = await skein(first, 'service', 'scale', '--detach', 'web=5')
  t.not(refused.code, 0)
  t.regex(refused.stderr, /does not have a leader|no answer from the leader/)
  t.is((await skein(first, 'service', 'ls')).code, 0)
  await swarm.node(1).start()
  await until('writes to go on', async () => {
    return (await skein(first, 'service', 'scale', '--detach', 'web=1')).code === 0
  })
})
