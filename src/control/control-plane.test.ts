import test from 'ava'
import { assert } from '../base/assert.ts'
import { SwarmError } from '../base/errors.ts'
import type { Task } from '../store/objects.ts'
import { nodeDraft, serviceSpec } from '../store/testing/fixtures.ts'
import { NODE_DOWN_GRACE_MS } from './node-planner.ts'
import { FakeSwarm } from './testing/fake-swarm.ts'
import { SECOND_NS, image, perNode, slots, withTemplate } from './testing/specs.ts'

test('a new service is allocated, scheduled and assigned in one transaction', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(3)
  const before = swarm.controlTransactions
  const id = swarm.createService(
    serviceSpec('web', 6, {
      EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort: 8080 }, { TargetPort: 81 }] },
    }),
  )
  await swarm.clock.advance(3)
  t.is(swarm.controlTransactions, before + 1)
  t.true(swarm.tasks(id).every((task) => task.status.state === 'assigned'))
  await swarm.settle()
  t.deepEqual(slots(swarm.running(id)), [1, 2, 3, 4, 5, 6])
  t.deepEqual(perNode(swarm.running(id)), { n0: 2, n1: 2, n2: 2 })
  t.deepEqual(
    swarm.service(id).endpoint?.ports.map((port) => port.publishedPort),
    [8080, 30000],
  )
  t.deepEqual(swarm.tasks(id)[0]?.ports, swarm.service(id).endpoint?.ports)
  t.deepEqual(
    swarm.store.list('nodes').map((node) => node.subnet),
    ['10.0.0.0/24', '10.0.1.0/24', '10.0.2.0/24'],
  )
  await swarm.depose()
  t.is(swarm.clock.pending, 0, 'a stopped control plane leaves no timer')
})

test('an idle swarm writes nothing', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(3)
  swarm.createService(serviceSpec('web', 3))
  await swarm.settle(500)
  const { index } = swarm.store
  await swarm.settle(60_000)
  t.is(swarm.store.index, index)
})

test('fifty replicas are one transaction, four hundred are a few', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(3)
  const before = swarm.controlTransactions
  const fifty = swarm.createService(serviceSpec('fifty', 50))
  await swarm.clock.advance(5)
  t.is(swarm.controlTransactions, before + 1)
  t.is(swarm.tasks(fifty).length, 50)
  const many = swarm.createService(serviceSpec('many', 400))
  await swarm.clock.advance(20)
  t.is(swarm.tasks(many).length, 400)
  t.true(swarm.tasks(many).every((task) => task.status.state === 'assigned'))
})

test('scaling up keeps what runs and fills free slots', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(2)
  const id = swarm.createService(serviceSpec('web', 2))
  await swarm.settle()
  const first = swarm.running(id).map((task) => task.id)
  swarm.updateService(id, (spec) => ({ ...spec, Mode: { Replicated: { Replicas: 5 } } }))
  await swarm.settle()
  t.deepEqual(slots(swarm.running(id)), [1, 2, 3, 4, 5])
  const now = new Set(swarm.running(id).map((task) => task.id))
  t.true(first.every((taskId) => now.has(taskId)))
  t.is(swarm.service(id).updateStatus, undefined)
})

test('scaling down takes from the fullest node and removes the tasks', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(1)
  const id = swarm.createService(serviceSpec('web', 3))
  await swarm.settle()
  swarm.addNode('n1')
  await swarm.settle(600)
  swarm.updateService(id, (spec) => ({ ...spec, Mode: { Replicated: { Replicas: 4 } } }))
  await swarm.settle()
  t.deepEqual(perNode(swarm.running(id)), { n0: 3, n1: 1 })
  swarm.updateService(id, (spec) => ({ ...spec, Mode: { Replicated: { Replicas: 2 } } }))
  await swarm.settle()
  t.deepEqual(perNode(swarm.running(id)), { n0: 1, n1: 1 })
  t.is(swarm.tasks(id).length, 2)
})

test('a removed service takes its tasks along once they have stopped', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(2)
  const id = swarm.createService(serviceSpec('web', 3))
  await swarm.settle()
  swarm.write([{ type: 'remove', table: 'services', id }])
  await swarm.clock.advance(3)
  t.true(swarm.tasks(id).every((task) => task.desiredState === 'remove'))
  t.is(swarm.tasks(id).length, 3)
  await swarm.settle()
  t.is(swarm.tasks(id).length, 0)
})

test('a deleted task is replaced', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(2)
  const id = swarm.createService(serviceSpec('web', 2))
  await swarm.settle()
  const [victim] = swarm.running(id)
  swarm.write([{ type: 'remove', table: 'tasks', id: victim?.id ?? '' }])
  await swarm.settle()
  t.deepEqual(slots(swarm.running(id)), [1, 2])
})

test('tasks of a silent node run elsewhere after the grace, not before', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(3)
  const id = swarm.createService(serviceSpec('web', 6))
  await swarm.settle()
  swarm.silent.add('n2')
  await swarm.settle(NODE_DOWN_GRACE_MS - 500)
  t.is(swarm.store.get('nodes', 'n2')?.status.state, 'ready')
  t.deepEqual(perNode(swarm.running(id)), { n0: 2, n1: 2, n2: 2 })
  await swarm.settle(1_700)
  t.is(swarm.store.get('nodes', 'n2')?.status.state, 'down')
  t.deepEqual(perNode(swarm.running(id)), { n0: 3, n1: 3 })
  swarm.silent.delete('n2')
  await swarm.settle(1_000)
  t.is(swarm.store.get('nodes', 'n2')?.status.state, 'ready')
  t.deepEqual(perNode(swarm.running(id)), { n0: 3, n1: 3 }, 'nothing moves back')
  t.true(
    swarm.store.find('tasks', 'nodeId', 'n2').every((task) => task.status.state === 'shutdown'),
  )
})

test('a node is down after two of the heartbeat periods that the swarm has', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(2)
  const cluster = swarm.store.cluster()
  assert(cluster !== undefined, 'begun')
  const spec = { ...cluster.spec, Dispatcher: { HeartbeatPeriod: 30 * SECOND_NS } }
  const { version } = cluster.meta
  swarm.write([{ type: 'update', table: 'cluster', version, object: { ...cluster, spec } }])
  swarm.silent.add('n1')
  await swarm.settle(59_000)
  t.is(swarm.store.get('nodes', 'n1')?.status.state, 'ready')
  await swarm.settle(2_000)
  t.is(swarm.store.get('nodes', 'n1')?.status.state, 'down')
})

test('a new leader gives every node the full grace', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(2)
  swarm.silent.add('n1')
  await swarm.settle(NODE_DOWN_GRACE_MS - 1_000)
  await swarm.depose()
  swarm.control.start()
  await swarm.settle(NODE_DOWN_GRACE_MS - 1_000)
  t.is(swarm.store.get('nodes', 'n1')?.status.state, 'ready')
  await swarm.settle(2_000)
  t.is(swarm.store.get('nodes', 'n1')?.status.state, 'down')
})

test('a node that leaves is down at once and does not return while its links last', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(2)
  const id = swarm.createService(serviceSpec('web', 2))
  await swarm.settle()
  const leave = { status: { state: 'down', message: 'left the swarm' } } as const
  swarm.updateNode('n1', () => leave)
  await swarm.settle(20_000)
  t.is(swarm.store.get('nodes', 'n1')?.status.state, 'down')
  t.deepEqual(perNode(swarm.running(id)), { n0: 2 })
  swarm.silent.add('n1')
  await swarm.settle(3_000)
  swarm.silent.delete('n1')
  await swarm.settle(600)
  t.is(swarm.store.get('nodes', 'n1')?.status.state, 'ready', 'after its links were down, it does')
})

test('draining moves only that node’s tasks; pausing moves none, brings none', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(3)
  const id = swarm.createService(serviceSpec('web', 6))
  await swarm.settle()
  const kept = swarm.running(id).filter((task) => task.nodeId !== 'n0')
  swarm.setAvailability('n0', 'drain')
  await swarm.settle()
  t.deepEqual(perNode(swarm.running(id)), { n1: 3, n2: 3 })
  const now = new Set(swarm.running(id).map((task) => task.id))
  t.true(kept.every((task) => now.has(task.id)))
  swarm.setAvailability('n1', 'pause')
  swarm.updateService(id, (spec) => ({ ...spec, Mode: { Replicated: { Replicas: 8 } } }))
  await swarm.settle()
  t.deepEqual(perNode(swarm.running(id)), { n1: 3, n2: 5 })
})

test('tasks of a removed node are orphaned and replaced', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(2)
  const id = swarm.createService(serviceSpec('web', 2))
  await swarm.settle()
  swarm.write([{ type: 'remove', table: 'nodes', id: 'n1' }])
  await swarm.settle()
  t.deepEqual(perNode(swarm.running(id)), { n0: 2 })
  const [orphan] = swarm.store.find('tasks', 'nodeId', 'n1')
  t.like(orphan, { desiredState: 'shutdown', status: { state: 'orphaned' } })
})

test('a published port is the first service’s, and the second’s when that is gone', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(1)
  const EndpointSpec = { Ports: [{ TargetPort: 80, PublishedPort: 8080 }] }
  const web = swarm.createService(serviceSpec('web', 1, { EndpointSpec }))
  t.throws(() => swarm.createService(serviceSpec('two', 1, { EndpointSpec })), {
    code: 'INVALID_ARGUMENT',
    message: `port '8080' is already in use by service 'web' (${web}) as an ingress port`,
  })
  // Two creations that did not see each other.
  const spec = serviceSpec('two', 1, { EndpointSpec })
  const object = { id: 'two', spec, specVersion: 0 }
  await swarm.settle()
  swarm.write([{ type: 'create', table: 'services', object }])
  await swarm.settle()
  t.regex(swarm.tasks('two')[0]?.status.err ?? '', /port '8080' is already in use/)
  swarm.write([{ type: 'remove', table: 'services', id: web }])
  await swarm.settle()
  t.is(swarm.running('two').length, 1)
})

test('a node that no longer meets constraints or totals has tasks rejected', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(2)
  const only = {
    Placement: { Constraints: ['node.labels.disk!=hdd'] },
    Resources: { Reservations: { NanoCPUs: 1e9 } },
  }
  const id = swarm.createService(withTemplate(serviceSpec('web', 4), only))
  await swarm.settle()
  swarm.updateNode('n1', (node) => ({ spec: { ...node.spec, Labels: { disk: 'hdd' } } }))
  await swarm.settle()
  t.deepEqual(perNode(swarm.running(id)), { n0: 4 })
  const rejected = swarm.store.find('tasks', 'nodeId', 'n1')
  t.true(rejected.every((task) => task.status.state === 'rejected'))
  swarm.updateNode('n0', (node) => ({
    description: { ...node.description, resources: { nanoCpus: 3e9, memoryBytes: 4e9 } },
  }))
  await swarm.settle()
  t.deepEqual(perNode(swarm.running(id)), { n0: 3 })
})

test('a global service has one task on each eligible node', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(3)
  const id = swarm.createService({ ...serviceSpec('agent'), Mode: { Global: {} } })
  await swarm.settle()
  t.deepEqual(perNode(swarm.running(id)), { n0: 1, n1: 1, n2: 1 })
  swarm.addNode('n3')
  swarm.setAvailability('n0', 'drain')
  swarm.setAvailability('n1', 'pause')
  await swarm.settle(600)
  t.deepEqual(perNode(swarm.running(id)), { n1: 1, n2: 1, n3: 1 })
  const [paused] = swarm.running(id).filter((task) => task.nodeId === 'n1')
  swarm.silent.add('n2')
  await swarm.settle(NODE_DOWN_GRACE_MS + 1_000)
  t.deepEqual(perNode(swarm.running(id)), { n1: 1, n3: 1 })
  swarm.silent.delete('n2')
  swarm.setAvailability('n0', 'active')
  await swarm.settle(1_000)
  t.deepEqual(perNode(swarm.running(id)), { n0: 1, n1: 1, n2: 1, n3: 1 })
  t.true(swarm.running(id).some((task) => task.id === paused?.id))
  swarm.updateService(id, (spec) => image(spec, 'web:2'))
  await swarm.settle(10_000)
  const old = swarm.running(id).filter((task) => task.spec.ContainerSpec.Image === 'web:1')
  t.deepEqual(perNode(old), { n1: 1 }, 'a paused node keeps what it has')
  t.is(swarm.running(id).length, 4)
  swarm.setAvailability('n1', 'active')
  await swarm.settle(10_000)
  t.is(swarm.running(id).length, 4)
  t.true(swarm.running(id).every((task) => task.spec.ContainerSpec.Image === 'web:2'))
})

test('only the last ended tasks of a slot are kept', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(1)
  const id = swarm.createService(serviceSpec('web', 1))
  await swarm.settle()
  for (let round = 0; round < 9; round += 1) {
    const [task] = swarm.running(id)
    if (task === undefined) throw new Error('nothing runs')
    swarm.end(task, 'failed')
    await swarm.settle()
  }
  t.is(swarm.tasks(id).length, 6)
  t.is(swarm.running(id)[0]?.attempt, 9)
})

test('a refused plan is made anew, and an unknown outcome leaves no double', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(2)
  swarm.refusals.push(
    new SwarmError('OUT_OF_SEQUENCE', 'overtaken'),
    new SwarmError('NO_LEADER', 'no leader'),
    new SwarmError('TIMED_OUT', 'unknown'),
  )
  const id = swarm.createService(serviceSpec('web', 3))
  await swarm.settle(200)
  t.is(swarm.refusals.length, 0)
  t.deepEqual(slots(swarm.running(id)), [1, 2, 3])
})

test('a plan that a user overtakes is made anew from what the user wrote', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(2)
  swarm.latencyMs = 20
  const id = swarm.createService(serviceSpec('web', 3))
  await swarm.clock.advance(5)
  swarm.updateService(id, (spec) => ({ ...spec, Mode: { Replicated: { Replicas: 5 } } }))
  await swarm.settle(300)
  t.is(swarm.overtaken, 1)
  t.deepEqual(slots(swarm.running(id)), [1, 2, 3, 4, 5])
})

test('two tasks in one slot become one', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(2)
  const id = swarm.createService(serviceSpec('web', 2))
  await swarm.settle()
  const [task] = swarm.running(id)
  if (task === undefined) throw new Error('nothing runs')
  const { meta: _meta, address: _address, ...double } = task
  const object = { ...double, id: 'double', status: { ...task.status, state: 'assigned' as const } }
  swarm.write([{ type: 'create', table: 'tasks', object }])
  await swarm.settle()
  t.deepEqual(slots(swarm.running(id)), [1, 2])
})

test('a replacement under way waits for a task that does not stop, at most a minute', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(1)
  swarm.behaviours.set('hang:1', 'hang')
  const id = swarm.createService(image(serviceSpec('web'), 'hang:1'))
  await swarm.settle()
  swarm.updateService(id, (spec) => image(spec, 'web:2'))
  await swarm.settle(55_000)
  const fresh = (): Task | undefined =>
    swarm.tasks(id).find((task) => task.spec.ContainerSpec.Image === 'web:2')
  t.like(fresh(), { desiredState: 'ready', status: { state: 'ready' } })
  await swarm.settle(6_000)
  t.like(fresh(), { desiredState: 'running', status: { state: 'running' } })
})

test('nodes without a subnet still run tasks, without addresses', async (t) => {
  const swarm = new FakeSwarm()
  const cluster = swarm.store.cluster()
  swarm.write([{ type: 'remove', table: 'cluster', id: cluster?.id ?? '' }])
  swarm.write([{ type: 'create', table: 'nodes', object: nodeDraft('n0') }])
  swarm.control.start()
  const id = swarm.createService(serviceSpec('web', 2))
  await swarm.settle()
  t.is(swarm.running(id).length, 2)
  t.is(swarm.running(id)[0]?.address, undefined)
})
