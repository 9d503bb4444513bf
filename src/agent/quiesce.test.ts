/** Whom a task that is to stop waits for, and from which entry of the store on. */
import { setImmediate } from 'node:timers/promises'
import test from 'ava'
import { ManualClock } from '../control/testing/manual-clock.ts'
import type { AllocatedPort, Service, Task, TaskStatus } from '../store/objects.ts'
import { FIXTURE_TIME, serviceDraft, serviceSpec, taskDraft } from '../store/testing/fixtures.ts'
import { quiesce, reachOf } from './quiesce.ts'
import type { Balancers } from './quiesce.ts'
import type { TaskRecord } from './task-directory.ts'
import { TestCluster } from './testing/test-cluster.ts'

const never = new AbortController().signal
const PORT = { protocol: 'tcp', targetPort: 80, publishedPort: 8080 } as const
const INGRESS: AllocatedPort = { ...PORT, publishMode: 'ingress' }
const HOST: AllocatedPort = { ...PORT, publishMode: 'host' }

/** A store with a service of this endpoint, and a record of one of its tasks. */
async function scene(endpoint?: Partial<Service['endpoint']>, fields: Partial<Task> = {}) {
  const cluster = new TestCluster()
  await cluster.begin('here', '10.0.0.0/24')
  const whole = { ports: [], allocatedFor: 0, ...endpoint }
  const object = { ...serviceDraft('web', serviceSpec('of-test')), endpoint: whole }
  if (endpoint !== undefined) await cluster.propose([{ type: 'create', table: 'services', object }])
  const meta = { version: 1, createdVersion: 1, createdAt: FIXTURE_TIME, updatedAt: FIXTURE_TIME }
  const task = { ...taskDraft('t', { serviceId: 'web', ...fields }), meta }
  const { status } = task
  const record: TaskRecord = { task, status, origin: 'store', seenIndex: cluster.store.index }
  return { cluster, store: cluster.store, record }
}

test('whom a task waits for follows from where connections to it are led', async (t) => {
  const virtualAddresses = [{ networkId: 'net', address: '10.96.0.2' }]
  const reaches = async (endpoint?: Partial<Service['endpoint']>): Promise<string> => {
    const { record, store } = await scene(endpoint)
    return reachOf(record, store)
  }
  t.is(await reaches({ ports: [INGRESS] }), 'swarm')
  t.is(await reaches({ ports: [HOST, INGRESS] }), 'swarm')
  t.is(await reaches({ virtualAddresses }), 'swarm')
  t.is(await reaches({ ports: [HOST] }), 'node')
  t.is(await reaches({ networks: [{ networkId: 'net', aliases: [] }] }), 'nobody', 'dnsrr')
  t.is(await reaches({}), 'nobody')
  t.is(await reaches(), 'nobody', 'the service is gone')
})

test('where the replica is older than the record, the task’s own ports say it', async (t) => {
  const { record, store } = await scene(undefined, { ports: [INGRESS] })
  const newer = { ...record, seenIndex: store.index + 5 }
  t.is(reachOf(newer, store), 'swarm')
  t.is(reachOf({ ...newer, task: { ...newer.task, ports: [] } }, store), 'nobody')
})

interface Wait {
  readonly index: number
  readonly reach: string
}

/** Balancers that pass at once. */
function balancersOf(links: { areThere: boolean }, waits: Wait[]): Balancers {
  return {
    hasPeers: () => links.areThere,
    passed(index, { reach }) {
      waits.push({ index, reach })
      return Promise.resolve()
    },
  }
}

test('others are asked for the entry that told them, once a task that is unhealthy is known', async (t) => {
  const { store, record } = await scene({ ports: [INGRESS] })
  const clock = new ManualClock()
  const waits: Wait[] = []
  const links = { areThere: true }
  const status: TaskStatus = { ...record.status, state: 'running', health: 'unhealthy' }
  const task = { ...record.task, desiredState: 'running' } as const
  let now: TaskRecord = { ...record, task, status }
  const parts = { clock, store, balancers: balancersOf(links, waits), signal: never }
  const told = quiesce(parts, () => now)
  await clock.advance(500)
  t.deepEqual(waits, [])
  now = { ...now, task: { ...task, status }, seenIndex: 42 }
  await clock.advance(20)
  await told
  t.deepEqual(waits.splice(0), [{ index: 42, reach: 'swarm' }])

  now = { ...record, task, status }
  const untold = quiesce(parts, () => now)
  await clock.advance(1_999)
  t.deepEqual(waits, [])
  await clock.advance(20)
  await untold
  t.is(waits.splice(0).length, 1, 'a cluster that does not listen keeps no sick task alive')

  links.areThere = false
  const alone = quiesce(parts, () => now)
  await setImmediate()
  await alone
  t.is(waits.length, 1)
  t.is(clock.pending, 0)
})
