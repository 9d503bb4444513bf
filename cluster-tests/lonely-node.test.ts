/**
 * The last node standing: no leader, no peer. Its containers are restarted, come back after a power
 * cut, and answer; when the others return, all agree and nothing runs twice.
 */
import { join } from 'node:path'
import { readdirSync } from 'node:fs'
import test from 'ava'
import type { Daemon } from './harness/daemon.ts'
import { skeinOk, until } from './harness/daemon.ts'
import { answers, fetchText } from './harness/http.ts'
import { TestSwarm } from './harness/swarm.ts'
import { createWeb, nodeIdOf } from './harness/web.ts'

/** The containers that run on a daemon's node; no API tells, because a worker has no leader to ask. */
function containers(swarm: TestSwarm, daemon: Daemon): number[] {
  return swarm.containerPids([daemon]).toSorted((a, b) => a - b)
}

async function untilOtherContainers(
  swarm: TestSwarm,
  daemon: Daemon,
  options: { readonly than: readonly number[]; readonly count: number },
): Promise<number[]> {
  return until(`${options.count} new containers on ${daemon.options.name}`, async () => {
    const now = containers(swarm, daemon)
    const fresh = now.length === options.count && !now.some((pid) => options.than.includes(pid))
    return Promise.resolve(fresh && now)
  })
}

function since(startedAt: number): string {
  return `${((performance.now() - startedAt) / 1000).toFixed(2)} s`
}

test.serial('a worker without any peer keeps, restarts and boots its tasks', async (t) => {
  await using swarm = new TestSwarm(3, 49)
  await swarm.start()
  await swarm.form(1)
  await createWeb(swarm, 3, 8049)
  const [manager, other, lonely] = [swarm.node(0), swarm.node(1), swarm.node(2)]
  const lonelyId = await nodeIdOf(lonely)
  await Promise.all([manager.kill('SIGKILL'), other.kill('SIGKILL')])

  const first = containers(swarm, lonely)
  t.is(first.length, 1)
  let startedAt = performance.now()
  process.kill(first[0] ?? 0, 'SIGKILL')
  const second = await untilOtherContainers(swarm, lonely, { than: first, count: 1 })
  t.log(`restarted without a leader after ${since(startedAt)}`)
  await until('its own replica to answer', () => fetchText(lonely.host, 8049))

  await swarm.cutPower(lonely)
  startedAt = performance.now()
  await lonely.start()
  const third = await untilOtherContainers(swarm, lonely, { than: second, count: 1 })
  await until('its own replica to answer', () => fetchText(lonely.host, 8049))
  t.log(`back ${since(startedAt)} after the power, without a peer`)
  t.is((await answers(lonely.host, 8049, 4)).size, 1)
  t.regex(await skeinOk(lonely, 'info'), /Containers: /)

  await manager.start()
  await other.start()
  startedAt = performance.now()
  await swarm.untilReady(manager, 3)
  const running = await until('every replica once', async () => {
    const now = await swarm.running(manager)
    return now.length === 3 && swarm.containerPids().length === 3 && now
  })
  t.log(`agreed ${since(startedAt)} after the others returned`)
  t.is(new Set(running.map((task) => task.Slot)).size, 3)
  const own = running.find((task) => task.NodeID === lonelyId)
  t.deepEqual([own?.Status.ContainerStatus?.PID], third, 'what ran alone goes on')
  const history = (await swarm.tasks(manager)).filter((task) => task.Slot === own?.Slot)
  const states = history.map((task) => task.Status.State).toSorted()
  t.deepEqual(states, ['failed', 'failed', 'running'], 'each attempt was reported')
  t.regex(await skeinOk(manager, 'service', 'ps', 'web'), /Failed[^]*Failed/)
  await until('three replicas through every node', async () => {
    for (const daemon of swarm.daemons) {
      if ((await answers(daemon.host, 8049, 6)).size !== 3) return false
    }
    return true
  })
  t.true(readdirSync(join(lonely.dataDirectory, 'tasks')).length >= 1)
})

test.serial(
  'all of several lonely crashes are told, and the cluster may still decide otherwise',
  async (t) => {
    await using swarm = new TestSwarm(2, 48)
    await swarm.start()
    await swarm.form(1)
    await createWeb(swarm, 4, 8048)
    const [manager, lonely] = [swarm.node(0), swarm.node(1)]
    const lonelyId = await nodeIdOf(lonely)
    await manager.kill('SIGKILL')
    let known = containers(swarm, lonely)
    t.is(known.length, 2)
    for (let round = 0; round < 2; round += 1) {
      for (const pid of known) process.kill(pid, 'SIGKILL')
      known = await untilOtherContainers(swarm, lonely, { than: known, count: 2 })
    }
    await manager.start()
    await swarm.untilReady(manager, 2)
    await until('what runs to be known', async () => {
      const own = (await swarm.running(manager)).filter((task) => task.NodeID === lonelyId)
      const told = own.map((task) => task.Status.ContainerStatus?.PID ?? 0)
      return told.toSorted((a, b) => a - b).join() === known.join()
    })
    const failed = (await swarm.tasks(manager)).filter(
      (task) => task.NodeID === lonelyId && task.Status.State === 'failed',
    )
    t.is(failed.length, 4, 'two replicas, two crashes each')
    await skeinOk(manager, 'service', 'scale', '--detach', 'web=1')
    await until('one container in all', async () => {
      return Promise.resolve(swarm.containerPids().length === 1)
    })
    t.pass()
  },
)
