/**
 * Damage to a killed manager's log: what was torn in flight is cut and said, what may have been
 * acknowledged makes the node refuse, and `docs/recovery.md` brings it back. Never silently.
 */
import { appendFileSync } from 'node:fs'
import test from 'ava'
import type { Daemon } from './harness/daemon.ts'
import { SKEIN, run, skein, skeinOk, until } from './harness/daemon.ts'
import { fetchText } from './harness/http.ts'
import { damage, newestLogFile, tear } from './harness/raft-log-files.ts'
import { TestSwarm } from './harness/swarm.ts'
import { createWeb, nodeIdOf, pids } from './harness/web.ts'

/** Three managers with a service; the last one is dead after an acknowledged write. */
async function killedManager(swarm: TestSwarm, port: number): Promise<Daemon> {
  await swarm.start()
  await swarm.form(3)
  await createWeb(swarm, 3, port)
  const victim = swarm.node(2)
  const id = await nodeIdOf(victim)
  await skeinOk(victim, 'node', 'update', '--label-add', 'last=write', id)
  await victim.kill('SIGKILL')
  return victim
}

async function assertRefused(t: { regex(text: string, pattern: RegExp): void }, victim: Daemon) {
  t.regex(victim.log(), /could not be taken up again/)
  const info = await skeinOk(victim, 'info')
  t.regex(info, /Swarm: error/)
  t.regex(info, /Error: .*damaged; follow docs\/recovery\.md/)
  const refused = await skein(victim, 'node', 'ls')
  t.regex(refused.stderr, /damaged|STORAGE_CORRUPT/)
}

test.serial('a half-written record after the last is cut, and the node catches up', async (t) => {
  await using swarm = new TestSwarm(3, 46)
  const victim = await killedManager(swarm, 8046)
  const first = swarm.node(0)
  // The header of a 200-byte record, and five of its bytes: what a cut in flight leaves.
  appendFileSync(newestLogFile(victim), Buffer.from('a1b2c3d4c80001ffffffffff', 'hex'))
  await skeinOk(first, 'service', 'scale', '--detach', 'web=4')
  await victim.start()
  await swarm.untilReady(first, 3)
  await swarm.untilRunning(victim, 4)
  t.regex(await skeinOk(victim, 'info'), /Swarm: active/)
  await skeinOk(victim, 'service', 'scale', '--detach', 'web=3')
  await swarm.untilRunning(first, 3)
})

test.serial(
  'an acknowledged end that is torn off makes the node refuse; it leaves and joins anew',
  async (t) => {
    await using swarm = new TestSwarm(3, 46)
    const victim = await killedManager(swarm, 8046)
    const first = swarm.node(0)
    const oldId = (await swarm.nodes(first)).find((node) => node.Status.Addr === victim.host)?.ID
    tear(newestLogFile(victim), 7)
    await victim.start()
    await assertRefused(t, victim)

    t.not((await skein(victim, 'swarm', 'leave')).code, 0, 'not without --force')
    await skeinOk(victim, 'swarm', 'leave', '--force')
    t.regex(await skeinOk(victim, 'info'), /Swarm: inactive/)
    t.deepEqual(swarm.containerPids([victim]), [], 'its container is gone with its membership')
    await replace(swarm, victim, { id: oldId ?? '', port: 8046 })
    t.pass()
  },
)

test.serial('damage in the middle makes the node refuse; purged, it joins anew', async (t) => {
  await using swarm = new TestSwarm(3, 47)
  const victim = await killedManager(swarm, 8047)
  const first = swarm.node(0)
  const oldId = (await swarm.nodes(first)).find((node) => node.Status.Addr === victim.host)?.ID
  damage(newestLogFile(victim), 0.5)
  await victim.start()
  await assertRefused(t, victim)
  await victim.kill('SIGTERM')
  const purged = await run(SKEIN, ['daemon', '--data-dir', victim.dataDirectory, '--purge'])
  t.is(purged.code, 0, purged.stderr)
  t.deepEqual(swarm.containerPids([victim]), [])
  await victim.start()
  await replace(swarm, victim, { id: oldId ?? '', port: 8047 })
  t.pass()
})

test.serial(
  'a lone manager whose log is damaged refuses too, and its containers go on',
  async (t) => {
    await using swarm = new TestSwarm(1, 48)
    await swarm.start()
    await swarm.form(1)
    const daemon = swarm.node(0)
    const before = pids(await createWeb(swarm, 2, 8048))
    await daemon.kill('SIGKILL')
    damage(newestLogFile(daemon), 0.5)
    await daemon.start()
    await assertRefused(t, daemon)
    for (const pid of before) t.notThrows(() => process.kill(pid, 0), 'the container goes on')
  },
)

/** The name that a damaged node had, and the port of its service. */
interface Old {
  readonly id: string
  readonly port: number
}

/** As docs/recovery.md says: the old name goes, a new one comes, and it does its share. */
async function replace(swarm: TestSwarm, victim: Daemon, old: Old): Promise<void> {
  const { id: oldId, port } = old
  const first = swarm.node(0)
  await skeinOk(first, 'node', 'demote', oldId)
  await until('the old name to be removed', async () => {
    return (await skein(first, 'node', 'rm', '--force', oldId)).code === 0
  })
  await swarm.join(victim, 'manager')
  await swarm.untilReady(first, 3)
  await skeinOk(first, 'service', 'scale', '--detach', 'web=6')
  const tasks = await swarm.untilRunning(first, 6)
  const newId = await nodeIdOf(victim)
  if (newId === oldId) throw new Error('the node came back under its old name')
  await until('a task on the new node', async () => {
    return Promise.resolve(tasks.some((task) => task.NodeID === newId))
  })
  await until('six containers', async () => Promise.resolve(swarm.containerPids().length === 6))
  await until('an answer', () => fetchText(victim.host, port))
}
