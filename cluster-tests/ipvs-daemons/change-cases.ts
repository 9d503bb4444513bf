/** What users do not notice: replicas that come and go, and daemons that restart. */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Case } from '../ipvs/case.ts'
import { until } from '../harness/daemon.ts'
import { nodeIdOf } from '../harness/web.ts'
import { counts, inWorld, untilSpread } from './in-world.ts'
import { Stream, load } from './requests.ts'
import { REPLICAS } from './the-world.ts'
import { HOSTS, RUNNING_LIMIT_MS, progress } from './world.ts'
import type { World } from './world.ts'

const LEAST_REQUESTS = 10
/** How long the load goes on after the last change. */
const AFTERWARDS_MS = 3_000

export const CHANGE_CASES: readonly Case[] = [
  inWorld('no request fails while a service is scaled, updated and drained', async (own, note) => {
    await underLoad(own, note, async () => {
      await own.scale('web', REPLICAS + 2)
      await own.swarm.untilRunning(own.swarm.node(0), REPLICAS + 3, RUNNING_LIMIT_MS)
      await own.scale('web', REPLICAS)
      await untilReplicas(own, () => true)
      progress('scaled')
    })
    await underLoad(own, note, async () => {
      const before = new Set((await own.tasksOf('web')).map((task) => task.ID))
      await own.update('/services/web', ({ TaskTemplate }) => {
        const template = TaskTemplate as { readonly ForceUpdate?: number }
        return { TaskTemplate: { ...template, ForceUpdate: (template.ForceUpdate ?? 0) + 1 } }
      })
      await untilReplicas(own, (id) => !before.has(id))
      progress('updated')
    })
    await underLoad(own, note, async () => {
      const node = await nodeIdOf(own.swarm.node(2))
      await setAvailability(own, node, 'drain')
      await until(
        'the node to be empty',
        async () => {
          const tasks = await own.swarm.tasks(own.swarm.node(0))
          const left = tasks.filter((one) => one.NodeID === node && one.Status.State === 'running')
          return left.length === 0
        },
        RUNNING_LIMIT_MS,
      )
      await untilReplicas(own, () => true)
      await setAvailability(own, node, 'active')
      progress('drained')
    })
  }),

  inWorld(
    'connections live through restarts of daemons, and none is refused',
    async (own, note) => {
      await untilSpread(own)
      const streams = Array.from({ length: HOSTS }, (_, host) => {
        return new Stream(own.client, own.published(host, 'ticks'))
      })
      await until('all streams to flow', async () => streams.every(({ lines }) => lines > 2))
      await underLoad(own, note, async () => {
        const [first, second] = [own.swarm.node(1), own.swarm.node(2)]
        await Promise.all([first.kill('SIGTERM'), second.kill('SIGKILL')])
        await Promise.all([first.start(), second.start()])
        await own.swarm.untilReady(own.swarm.node(0), HOSTS)
        progress('restarted')
      })
      const lines = streams.map((stream) => stream.lines)
      await until('all streams to flow on', async () =>
        streams.every((stream, index) => stream.lines > (lines[index] ?? 0) + 2),
      )
      assert.ok(streams.every(({ isOpen }) => isOpen))
      note(
        `streams through hosts 1, 2, 3: open, ${lines.join('/')} ticks until the restart was over`,
      )
      for (const stream of streams) stream.close()
      assert.equal((await own.tasksOf('web')).length, REPLICAS)
    },
  ),
]

/** Does it under load through every host. */
async function underLoad(
  own: World,
  note: (text: string) => void,
  change: () => Promise<void>,
): Promise<void> {
  const hosts = Array.from({ length: HOSTS }, (_, host) => host)
  const loads = hosts.map((host) => load(own.client, own.published(host)))
  try {
    await change()
    await sleep(AFTERWARDS_MS)
  } finally {
    const results = await Promise.all(loads.map((each) => each.stop()))
    for (const [host, result] of results.entries()) {
      note(`host ${host + 1} under load: ${counts(result)}`)
    }
    for (const { asked, failed } of results) {
      assert.ok(asked > LEAST_REQUESTS)
      assert.equal(failed, 0, 'no request fails')
    }
  }
}

async function untilReplicas(own: World, isWanted: (id: string) => boolean): Promise<void> {
  await until(
    'the replicas that are wanted, and no others',
    async () => {
      const tasks = await own.tasksOf('web')
      return tasks.length === REPLICAS && tasks.every(({ ID }) => isWanted(ID))
    },
    RUNNING_LIMIT_MS,
  )
}

async function setAvailability(own: World, node: string, availability: string): Promise<void> {
  await own.update(`/nodes/${node}`, () => ({ Availability: availability }))
}
