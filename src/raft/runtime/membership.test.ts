/* Members that come, go and change their part. */
import test from 'ava'
import { at } from '../../base/assert.ts'
import { codeOf, others } from './cluster-steps.ts'
import { MemoryCluster } from './memory-cluster.ts'

test('a learner joins with nothing, is promoted, demoted and removed', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.apply(leader, ['a'])
  const learner = await cluster.up('n4')
  t.is(learner.configuration.servers.length, 0)
  await cluster.settled(leader.addLearner('n4', 'at-n4'))
  await cluster.converged()
  t.deepEqual(cluster.commands('n4'), ['a'])
  t.is(learner.leader, leader.id)
  const suffrage = (): string | undefined =>
    learner.configuration.servers.find(({ id }) => id === 'n4')?.suffrage
  t.is(suffrage(), 'learner')
  await cluster.until(() => leader.progressOf('n4')?.behind === 0, 'progress known')
  t.true(leader.progressOf('n4')?.recentActive)
  await cluster.settled(leader.addVoter('n4', 'at-n4-new'))
  await cluster.converged()
  t.is(suffrage(), 'voter')
  t.like(learner.configuration.servers.at(-1), { id: 'n4', address: 'at-n4-new' })
  await cluster.settled(leader.demoteVoter('n4'))
  await cluster.converged()
  t.is(suffrage(), 'learner')
  await cluster.settled(leader.removeServer('n4'))
  await cluster.until(() => suffrage() === undefined, 'the removed member knows it')
  const { term } = leader
  await cluster.clock.advance(20_000)
  t.is(learner.role, 'follower', 'who is no member never campaigns')
  t.is(leader.term, term)
  t.is(leader.configuration.servers.length, 3)
})

test('changes of membership are checked, and one at a time', async (t) => {
  await using cluster = await MemoryCluster.start(1)
  const leader = await cluster.leader()
  t.is(await codeOf(leader.removeServer('n1')), 'FAILED_PRECONDITION')
  t.is(await codeOf(leader.demoteVoter('n1')), 'FAILED_PRECONDITION')
  t.is(await codeOf(leader.removeServer('n9')), 'NOT_FOUND')
  t.is(await codeOf(leader.addLearner('n1', 'x')), 'FAILED_PRECONDITION')
  const first = leader.addLearner('n2', 'at-n2')
  const second = codeOf(leader.addLearner('n3', 'at-n3'))
  t.is(await cluster.settled(second), 'FAILED_PRECONDITION')
  await cluster.settled(first)
  t.deepEqual(
    leader.configuration.servers.map(({ id }) => id),
    ['n1', 'n2'],
  )
})

test('two voters are swapped in one change through joint consensus', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.up('n4')
  await cluster.settled(leader.addLearner('n4', 'at-n4'))
  const gone = at(others(cluster, leader.id), 0)
  await cluster.settled(
    leader.changeMembership([
      { type: 'addVoter', id: 'n4', address: 'at-n4' },
      { type: 'removeServer', id: gone },
    ]),
  )
  t.false(leader.configuration.joint)
  const voters = leader.configuration.servers.filter(({ suffrage }) => suffrage === 'voter')
  t.deepEqual(voters.map(({ id }) => id).includes('n4'), true)
  t.is(voters.length, 3)
  await cluster.down(gone)
  await cluster.apply(leader, ['a'])
  await cluster.converged()
  t.deepEqual(cluster.commands('n4'), ['a'])
})

test('a leader that removes itself makes room for another', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.settled(leader.removeServer(leader.id))
  const rest = others(cluster, leader.id)
  const next = await cluster.leader(rest)
  await cluster.apply(next, ['a'])
  t.not(leader.role, 'leader')
  t.deepEqual(
    next.configuration.servers.map(({ id }) => id),
    rest,
  )
})
