/* Updates of services, slot by slot. */
import test from 'ava'
import { serviceSpec } from '../store/testing/fixtures.ts'
import { FakeSwarm } from './testing/fake-swarm.ts'
import { SECOND_NS, image, perNode, withTemplate } from './testing/specs.ts'

test('an update replaces slots a few at a time and ends completed', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(2)
  const UpdateConfig = { Parallelism: 2, Delay: SECOND_NS, Monitor: SECOND_NS }
  const id = swarm.createService(serviceSpec('web', 5, { UpdateConfig }))
  await swarm.settle()
  swarm.updateService(id, (spec) => image(spec, 'web:2'))
  let most = 0
  let fewest = 5
  for (let step = 0; step < 600; step += 1) {
    await swarm.settle(10)
    const wanted = swarm.tasks(id).filter((task) => task.desiredState !== 'shutdown')
    const fresh = wanted.filter((task) => task.spec.ContainerSpec.Image === 'web:2')
    most = Math.max(most, fresh.filter((task) => task.status.state !== 'running').length)
    fewest = Math.min(fewest, swarm.running(id).length)
    t.is(wanted.length, 5, 'stop-first never has more wanted than replicas')
  }
  t.is(most, 2)
  t.is(fewest, 3)
  t.true(swarm.running(id).every((task) => task.spec.ContainerSpec.Image === 'web:2'))
  t.like(swarm.service(id).updateStatus, { state: 'completed', message: 'update completed' })
})

test('start-first never has fewer than the replicas running', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(2)
  const UpdateConfig = { Parallelism: 1, Order: 'start-first', Monitor: SECOND_NS } as const
  const id = swarm.createService(serviceSpec('web', 3, { UpdateConfig }))
  await swarm.settle()
  swarm.updateService(id, (spec) => image(spec, 'web:2'))
  for (let step = 0; step < 300; step += 1) {
    await swarm.settle(10)
    const runs = swarm.tasks(id).filter((task) => task.status.state === 'running')
    t.true(runs.length >= 3)
  }
  t.true(swarm.running(id).every((task) => task.spec.ContainerSpec.Image === 'web:2'))
  t.is(swarm.running(id).length, 3)
})

test('a failing update pauses; a new spec goes on', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(2)
  swarm.behaviours.set('bad:1', 'fail')
  const id = swarm.createService(serviceSpec('web', 3, { UpdateConfig: { Parallelism: 1 } }))
  await swarm.settle()
  swarm.updateService(id, (spec) => image(spec, 'bad:1'))
  await swarm.settle(1_000)
  t.is(swarm.service(id).updateStatus?.state, 'paused')
  t.regex(swarm.service(id).updateStatus?.message ?? '', /^update paused due to failure/)
  t.is(swarm.running(id).length, 2, 'the other slots are not touched')
  swarm.updateService(id, (spec) => image(spec, 'web:3'))
  await swarm.settle(8_000)
  t.is(swarm.running(id).length, 3)
  t.is(swarm.service(id).updateStatus?.state, 'completed')
})

test('a failing update rolls back to the spec before, as a user may', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(2)
  swarm.behaviours.set('bad:1', 'fail')
  const UpdateConfig = { Parallelism: 1, FailureAction: 'rollback' } as const
  const id = swarm.createService(serviceSpec('web', 3, { UpdateConfig }))
  await swarm.settle()
  const kept = swarm.running(id).map((task) => task.id)
  swarm.updateService(id, (spec) => image(spec, 'bad:1'))
  await swarm.settle(10_000)
  t.is(swarm.service(id).spec.TaskTemplate.ContainerSpec.Image, 'web:1')
  t.is(swarm.service(id).updateStatus?.state, 'rollback_completed')
  t.is(swarm.running(id).filter((task) => kept.includes(task.id)).length, 2)
  swarm.updateService(id, (spec) => image(spec, 'web:2'))
  await swarm.settle(10_000)
  swarm.updateService(id, (spec) => spec, true)
  await swarm.settle(10_000)
  t.true(swarm.running(id).every((task) => task.spec.ContainerSpec.Image === 'web:1'))
  t.is(swarm.service(id).updateStatus?.state, 'rollback_completed')
})

test('a constraint-only update keeps what fits and moves the rest', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(2)
  const id = swarm.createService(serviceSpec('web', 4))
  await swarm.settle()
  const fitting = swarm.running(id).filter((task) => task.nodeId === 'n1')
  const only = { Placement: { Constraints: ['node.id==n1'] } }
  swarm.updateService(id, (spec) => withTemplate(spec, only))
  await swarm.settle(10_000)
  t.deepEqual(perNode(swarm.running(id)), { n1: 4 })
  const now = new Set(swarm.running(id).map((task) => task.id))
  t.true(fitting.every((task) => now.has(task.id)))
})
