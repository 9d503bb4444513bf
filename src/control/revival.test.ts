/* What follows a task that ended: restarts and replacements. */
import test from 'ava'
import { successorTaskId } from '../store/restart-policy.ts'
import { serviceSpec } from '../store/testing/fixtures.ts'
import { LEADER_RESTART_GRACE_MS } from './revival.ts'
import { FakeSwarm } from './testing/fake-swarm.ts'
import { SECOND_NS, image, slots, withTemplate } from './testing/specs.ts'

test('a rejected task is replaced after the delay, as often as the policy says', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(2)
  swarm.behaviours.set('bad:1', 'reject')
  const policy = { RestartPolicy: { Delay: 5 * SECOND_NS, MaxAttempts: 2 } }
  const id = swarm.createService(withTemplate(image(serviceSpec('web'), 'bad:1'), policy))
  await swarm.settle(4_000)
  t.is(swarm.tasks(id).length, 1)
  await swarm.settle(3_000)
  t.is(swarm.tasks(id).length, 2)
  await swarm.settle(30_000)
  t.is(swarm.tasks(id).length, 3)
  t.deepEqual(
    swarm
      .tasks(id)
      .map((task) => task.attempt)
      .toSorted((a, b) => a - b),
    [0, 1, 2],
  )
  t.true(swarm.tasks(id).every((task) => task.desiredState === 'shutdown'))
})

test('the leader leaves an ended task to its healthy node', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(2)
  const id = swarm.createService(serviceSpec('web', 2))
  await swarm.settle()
  const [victim] = swarm.running(id)
  if (victim === undefined) throw new Error('nothing runs')
  const before = swarm.controlTransactions
  swarm.end(victim, 'failed')
  await swarm.settle()
  t.is(swarm.controlTransactions, before)
  const successor = swarm.running(id).find((task) => task.predecessor === victim.id)
  t.like(successor, {
    id: successorTaskId(victim.id),
    nodeId: victim.nodeId,
    address: victim.address,
    attempt: 1,
  })
})

test('the leader makes the successor when the node does not, with the same id', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(1)
  swarm.lazy.add('n0')
  const policy = { RestartPolicy: { Delay: SECOND_NS } }
  const id = swarm.createService(withTemplate(serviceSpec('web'), policy))
  await swarm.settle()
  const [victim] = swarm.running(id)
  if (victim === undefined) throw new Error('nothing runs')
  swarm.end(victim, 'failed')
  await swarm.settle(LEADER_RESTART_GRACE_MS)
  t.is(swarm.tasks(id).length, 1)
  await swarm.settle(2_000)
  t.deepEqual(
    swarm.running(id).map((task) => task.id),
    [successorTaskId(victim.id)],
  )
})

test('a task that ended for good keeps its slot and is not repeated', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(2)
  swarm.behaviours.set('job:1', 'complete')
  swarm.behaviours.set('bad:1', 'fail')
  const policy = (Condition: 'on-failure' | 'none') => ({ RestartPolicy: { Condition } })
  const done = swarm.createService(
    withTemplate(image(serviceSpec('done', 2), 'job:1'), policy('on-failure')),
  )
  const none = swarm.createService(
    withTemplate(image(serviceSpec('none', 2), 'bad:1'), policy('none')),
  )
  await swarm.settle(60_000)
  t.deepEqual(slots(swarm.tasks(done)), [1, 2])
  t.deepEqual(slots(swarm.tasks(none)), [1, 2])
  swarm.setAvailability('n1', 'drain')
  await swarm.settle(60_000)
  t.is(swarm.tasks(done).length, 2)
  swarm.updateService(none, (spec) => image(spec, 'web:2'))
  await swarm.settle(20_000)
  t.deepEqual(slots(swarm.running(none)), [1, 2], 'a new spec begins anew')
})
