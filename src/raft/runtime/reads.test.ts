/* Reads at each consistency, and leases. */
import test from 'ava'
import { at } from '../../base/assert.ts'
import { bytes, codeOf, fateOf, follower, numbered, others } from './cluster-steps.ts'
import { MemoryCluster } from './memory-cluster.ts'

test('a linearizable read on any member sees what was acknowledged before', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  for (let turn = 0; turn < 5; turn += 1) {
    const { index } = await cluster.settled(leader.apply(bytes(`c${turn}`)))
    for (const raft of cluster.running) {
      const seen = await cluster.settled(
        raft.read((applied) => ({ applied, commands: [...cluster.commands(raft.id)] })),
      )
      t.true(seen.applied >= index)
      t.deepEqual(seen.commands, numbered(0, turn + 1))
    }
  }
})

test('a stale read answers at once, also where nobody leads', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.apply(leader, ['a'])
  await cluster.converged()
  for (const id of others(cluster, leader.id)) await cluster.down(id)
  const alone = cluster.raft(leader.id)
  t.deepEqual(await alone.read(() => cluster.commands(leader.id), { consistency: 'stale' }), ['a'])
  t.is(
    await fateOf(
      cluster,
      alone.read(() => 0),
    ),
    'TIMED_OUT',
  )
})

const leases = { raft: { leaseReads: true } }

test('a leader whose lease holds answers a read without a message', async (t) => {
  await using cluster = await MemoryCluster.start(3, leases)
  const leader = await cluster.leader()
  await cluster.apply(leader, ['a'])
  await cluster.clock.advance(500)
  const before = cluster.network.delivered
  const read = leader.read(() => cluster.commands(leader.id), { consistency: 'lease' })
  t.deepEqual(await read, ['a'], 'no time passed')
  t.is(cluster.network.delivered, before)
})

test('without the option a lease read costs a round, on every member', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.apply(leader, ['a'])
  await cluster.clock.advance(500)
  for (const raft of cluster.running) {
    const before = cluster.network.delivered
    t.is(await cluster.settled(raft.read(() => 1, { consistency: 'lease' })), 1)
    t.true(cluster.network.delivered > before)
  }
})

test('a leader that was stopped for longer than its lease finds it over at the read', async (t) => {
  await using cluster = await MemoryCluster.start(3, leases)
  const leader = await cluster.leader()
  await cluster.apply(leader, ['a'])
  await cluster.clock.advance(500)
  cluster.network.cut([leader.id], others(cluster, leader.id))
  cluster.clock.stall(5000)
  t.is(leader.role, 'leader', 'its ticks do not know of the stall')
  const read = codeOf(leader.read(() => 1, { consistency: 'lease', timeoutMs: 3000 }))
  t.is(await cluster.settled(read), 'TIMED_OUT')
})

test('a cut-off leader has no lease when another is elected', async (t) => {
  for (let seed = 1; seed <= 10; seed += 1) {
    await using cluster = await MemoryCluster.start(3, { ...leases, seed: seed * 7 })
    const leader = await cluster.leader()
    await cluster.apply(leader, ['a'])
    await cluster.clock.advance(500)
    const rest = others(cluster, leader.id)
    cluster.network.cut([leader.id], rest)
    const elected = (): boolean => rest.some((id) => cluster.raft(id).role === 'leader')
    const answers: string[] = []
    while (!elected()) {
      const read = leader.read(() => 'answered', { consistency: 'lease', timeoutMs: 1 })
      read.then(
        () => answers.push('answered'),
        () => answers.push('refused'),
      )
      await cluster.clock.advance(5)
    }
    t.true(answers.includes('answered'))
    const after = codeOf(leader.read(() => 1, { consistency: 'lease', timeoutMs: 100 }))
    t.not(await cluster.settled(after), 'ok', `seed ${seed}: two leaders answer`)
  }
})

test('a lease ends when a transfer begins', async (t) => {
  await using cluster = await MemoryCluster.start(3, leases)
  const leader = await cluster.leader()
  await cluster.apply(leader, ['a'])
  await cluster.clock.advance(500)
  const target = at(others(cluster, leader.id), 0)
  cluster.network.drop((_from, _to, { type }) => type === 'timeoutNow')
  const transfer = codeOf(leader.transferLeadership(target))
  await Promise.resolve()
  const before = cluster.network.delivered
  t.is(await cluster.settled(leader.read(() => 1, { consistency: 'lease' })), 1)
  t.true(cluster.network.delivered > before, 'it asked the others')
  t.is(await cluster.settled(transfer), 'TIMED_OUT')
  const later = cluster.network.delivered
  await cluster.settled(leader.read(() => 1, { consistency: 'lease' }))
  t.true(cluster.network.delivered > later, 'for the rest of the term')
})

test('with leases nobody campaigns while it hears a leader, nor soon after a start', async (t) => {
  await using cluster = await MemoryCluster.start(3, leases)
  const leader = await cluster.leader()
  await cluster.clock.advance(500)
  const member = follower(cluster, leader)
  cluster.network.closeLink(member.id, leader.id)
  t.is(await fateOf(cluster, member.campaign()), 'TIMED_OUT')
  t.is(leader.role, 'leader')
})
