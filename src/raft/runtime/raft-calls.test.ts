import test from 'ava'
import { at } from '../../base/assert.ts'
import { bytes, codeOf, fateOf, follower, numbered, others, source } from './cluster-steps.ts'
import { MemoryCluster } from './memory-cluster.ts'

test('a batch of commands enters the log in order, together', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const results = await cluster.settled(leader.applyBatch(numbered(0, 100).map(bytes)))
  t.deepEqual(
    results.map(({ response }) => response),
    Array.from({ length: 100 }, (_, position) => position + 1),
  )
  t.is(at(results, 99).index - at(results, 0).index, 99)
  t.deepEqual(cluster.commands(leader.id), numbered(0, 100))
  t.deepEqual(await cluster.settled(leader.applyBatch([])), [])
  t.is(await codeOf(leader.applyBatch([bytes('a'), new Uint8Array()])), 'INVALID_ARGUMENT')
  t.is(await codeOf(follower(cluster, leader).applyBatch([bytes('a')])), 'NOT_LEADER')
})

test('a leader steps down for the best voter, or for nobody when none takes it', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.settled(leader.stepDown())
  t.is(leader.role, 'follower')
  const next = await cluster.leader()
  t.not(next.id, leader.id)
  cluster.network.drop((_from, _to, { type }) => type === 'timeoutNow')
  const { term } = next
  await cluster.settled(next.stepDown())
  t.is(next.role, 'follower')
  t.is(next.term, term)
  cluster.network.heal()
  await cluster.apply(await cluster.leader(), ['a'])
  await using lonely = await MemoryCluster.start(1)
  t.is(await codeOf((await lonely.leader()).stepDown()), 'FAILED_PRECONDITION')
})

test('a campaign deposes no leader that lives, and wins where there is none', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const { term } = leader
  const member = follower(cluster, leader)
  t.is(await fateOf(cluster, member.campaign()), 'TIMED_OUT')
  t.is(leader.role, 'leader')
  t.is(leader.term, term)
  await cluster.settled(leader.campaign())
  await cluster.down(leader.id)
  await cluster.clock.advance(1000)
  await cluster.settled(member.campaign())
  t.is(member.role, 'leader')
  await cluster.settled(member.addLearner('n4', 'at-n4'))
  const learner = await cluster.up('n4')
  await cluster.converged()
  t.is(await codeOf(learner.campaign()), 'FAILED_PRECONDITION')
})

test('writes during a hand-over are refused as without effect, and so is another hand-over', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const [one, two] = others(cluster, leader.id)
  cluster.network.drop((_from, _to, { type }) => type === 'timeoutNow')
  const transfer = codeOf(leader.transferLeadership(one))
  t.is(await codeOf(leader.transferLeadership(two)), 'FAILED_PRECONDITION')
  t.is(await fateOf(cluster, leader.apply(bytes('x'))), 'UNAVAILABLE')
  t.is(await fateOf(cluster, leader.addLearner('n4', 'at-n4')), 'UNAVAILABLE')
  t.is(await cluster.settled(transfer), 'TIMED_OUT')
  await cluster.apply(leader, ['a'])
})

test('a hand-over that a lost quorum interrupts is forgotten with its term', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const rest = others(cluster, leader.id)
  cluster.network.drop((_from, _to, { type }) => type === 'timeoutNow')
  const transfer = codeOf(leader.transferLeadership(rest[0]))
  cluster.network.cut([leader.id], rest)
  t.is(await cluster.settled(transfer), 'TIMED_OUT')
  await cluster.until(() => leader.role !== 'leader', 'stepping down')
  cluster.network.heal()
  let next = await cluster.leader()
  for (let turn = 0; next.id !== leader.id && turn < 10; turn += 1) {
    await cluster.settled(next.transferLeadership(leader.id))
    next = await cluster.leader()
  }
  t.is(next.id, leader.id)
  await cluster.apply(leader, ['a'])
})

test('limits of snapshots and timeouts change while a member runs', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.apply(leader, numbered(0, 100))
  t.is(leader.stats().snapshotIndex, 0)
  leader.reloadConfig({ snapshotThreshold: 50, trailingEntries: 7 })
  t.like(leader.reloadableConfig, { snapshotThreshold: 50, trailingEntries: 7, electionTicks: 10 })
  await cluster.apply(leader, ['one more'])
  await cluster.until(() => leader.stats().snapshotIndex > 100, 'a snapshot')
  await cluster.until(() => leader.stats().firstIndex > 90, 'compaction')
  for (const raft of cluster.running) raft.reloadConfig({ electionTicks: 30, heartbeatTicks: 3 })
  const downMs = cluster.clock.monotonicMs()
  await cluster.down(leader.id)
  await cluster.leader()
  t.true(cluster.clock.monotonicMs() - downMs >= 2600, 'elections wait longer now')
})

test('a reload that makes no sense changes nothing', async (t) => {
  await using cluster = await MemoryCluster.start(1, { raft: { leaseReads: true } })
  const leader = await cluster.leader()
  const before = leader.reloadableConfig
  const attempts: readonly object[] = [
    { heartbeatTicks: 10 },
    { snapshotThreshold: 0 },
    { trailingEntries: -1 },
    { tickMs: 5 },
  ]
  for (const changes of attempts) {
    t.throws(() => leader.reloadConfig(changes), { code: 'INVALID_ARGUMENT' })
  }
  t.throws(() => leader.reloadConfig({ electionTicks: 20 }), { code: 'FAILED_PRECONDITION' })
  t.deepEqual(leader.reloadableConfig, before)
})

test('after its stop a member answers every call with SHUTTING_DOWN', async (t) => {
  const cluster = await MemoryCluster.start(1)
  const leader = await cluster.leader()
  await cluster.down('n1')
  const calls = [
    leader.apply(bytes('x')),
    leader.applyBatch([bytes('x')]),
    leader.barrier(),
    leader.verifyLeader(),
    leader.readIndex(),
    leader.read(() => 1),
    leader.read(() => 1, { consistency: 'stale' }),
    leader.addVoter('n2', 'x'),
    leader.removeServer('n2'),
    leader.transferLeadership(),
    leader.stepDown(),
    leader.campaign(),
    leader.snapshot(),
    leader.restore(source('x')),
    leader.waitApplied(1000),
  ]
  for (const call of calls) t.is(await codeOf(call), 'SHUTTING_DOWN')
  await leader.shutdown()
})

test('learners can get fewer heartbeats than voters, and still hear their leader', async (t) => {
  await using cluster = await MemoryCluster.start(3, { raft: { learnerHeartbeatTicks: 4 } })
  const leader = await cluster.leader()
  await cluster.settled(leader.addLearner('n4', 'at-n4'))
  const learner = await cluster.up('n4')
  await cluster.converged()
  const beats = new Map<string, number>()
  cluster.network.drop((_from, to, { type }) => {
    if (type === 'heartbeat') beats.set(to, (beats.get(to) ?? 0) + 1)
    return false
  })
  for (let turn = 0; turn < 100; turn += 1) {
    await cluster.clock.advance(100)
    t.is(learner.leader, leader.id)
  }
  t.true((beats.get('n4') ?? 0) <= 26)
  t.true((beats.get(at(others(cluster, leader.id), 0)) ?? 0) >= 99)
  await cluster.apply(leader, ['a'])
  await cluster.converged()
  t.deepEqual(cluster.commands('n4'), ['a'])
  t.true(
    (leader.progressOf('n4')?.recentActive ?? false) || leader.lastContactMs('n4') !== undefined,
  )
})

test('heartbeats to learners rarer than elections are refused', async (t) => {
  const cluster = new MemoryCluster({ raft: { learnerHeartbeatTicks: 10 } })
  t.is(await codeOf(cluster.up('n1')), 'INVALID_ARGUMENT')
})

test('who waits for a snapshot may give up; the snapshot goes on', async (t) => {
  await using cluster = await MemoryCluster.start(1)
  const leader = await cluster.leader()
  await cluster.apply(leader, ['a'])
  t.is(await codeOf(leader.snapshot({ signal: AbortSignal.abort() })), 'ABORTED')
  const stored = await cluster.settled(leader.snapshot({ timeoutMs: 1000 }))
  t.is(stored.metadata.index, leader.appliedIndex)
})
