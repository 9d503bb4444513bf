/* Behaviours of hashicorp/raft's suite (see hashicorp-behaviours.test.ts): leases, proofs, transfers. */
import test from 'ava'
import { at } from '../../base/assert.ts'
import {
  agree,
  bytes,
  codeOf,
  fateOf,
  follower,
  numbered,
  others,
  writeAll,
} from './cluster-steps.ts'
import { MemoryCluster } from './memory-cluster.ts'
import type { Leadership } from './member-view.ts'

test('a leader that hears no quorum leads no more, within two election timeouts', async (t) => {
  await using cluster = await MemoryCluster.start(2)
  const leader = await cluster.leader()
  const startMs = cluster.clock.monotonicMs()
  await cluster.down(at(others(cluster, leader.id), 0))
  await cluster.until(() => leader.role !== 'leader', 'stepping down')
  t.true(cluster.clock.monotonicMs() - startMs <= 2100)
  t.is(leader.leader, undefined)
})

test('leadership is proved alone, with all, with a part, and not without a quorum', async (t) => {
  await using lonely = await MemoryCluster.start(1)
  await lonely.settled((await lonely.leader()).verifyLeader())
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.settled(leader.verifyLeader())
  const [one = '', two = ''] = others(cluster, leader.id)
  cluster.network.cut([leader.id], [one])
  await cluster.settled(leader.verifyLeader())
  cluster.network.cut([leader.id], [one, two])
  const fate = await fateOf(cluster, leader.verifyLeader({ timeoutMs: 3000 }))
  t.true(['TIMED_OUT', 'NOT_LEADER'].includes(fate))
  t.is(await codeOf(cluster.raft(one).verifyLeader()), 'NOT_LEADER')
})

test('the loss and the return of leadership are told', async (t) => {
  await using cluster = await MemoryCluster.start(1)
  const leader = await cluster.leader()
  const told: Leadership[] = []
  leader.onLeadership((one) => told.push(one))
  await using group = await MemoryCluster.start(3)
  const first = await group.leader()
  const seen: boolean[] = []
  first.onLeadership(({ isLeader }) => seen.push(isLeader))
  group.network.cut([first.id], others(group, first.id))
  await group.until(() => first.role !== 'leader', 'stepping down')
  group.network.heal()
  await group.leader()
  t.is(seen[0], false)
  t.deepEqual(told, [])
})

test('everybody knows the leader by its id', async (t) => {
  await using cluster = await MemoryCluster.start(5)
  const leader = await cluster.leader()
  t.true(cluster.running.every((raft) => raft.leader === leader.id))
  t.is(leader.configuration.servers.find(({ id }) => id === leader.id)?.address, `at-${leader.id}`)
})

test('no vote is given while a leader is heard', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const { term } = leader
  const member = follower(cluster, leader)
  for (let turn = 0; turn < 5; turn += 1) {
    void codeOf(member.campaign({ timeoutMs: 200 }))
    await cluster.clock.advance(300)
  }
  t.is(leader.role, 'leader')
  t.is(leader.term, term)
})

test('a member that was partitioned for long costs no election when it returns', async (t) => {
  await using cluster = await MemoryCluster.start(5)
  const leader = await cluster.leader()
  const { term } = leader
  const lonely = others(cluster, leader.id).slice(0, 2)
  cluster.network.cut(lonely, [leader.id, ...others(cluster, leader.id).slice(2)])
  await cluster.clock.advance(60_000)
  for (const id of lonely) t.is(cluster.raft(id).term, term)
  cluster.network.heal()
  await cluster.clock.advance(5000)
  t.is(leader.term, term)
  t.is(leader.role, 'leader')
})

test('a member that can send but not hear never deposes the leader', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const { term } = leader
  const deaf = at(others(cluster, leader.id), 0)
  for (const id of others(cluster, deaf)) cluster.network.cutOneWay(id, deaf)
  await cluster.clock.advance(30_000)
  t.is(leader.term, term)
  await cluster.apply(leader, ['a'])
})

test('a follower whose disk is slow does not slow the group down', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const slow = follower(cluster, leader)
  cluster.network.drop((_from, to, { type }) => to === slow.id && type === 'app')
  const startMs = cluster.clock.monotonicMs()
  await cluster.apply(leader, numbered(0, 100))
  t.true(cluster.clock.monotonicMs() - startMs < 200)
})

test('a transfer picks the most current voter and never a learner', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.up('n4')
  await cluster.settled(leader.addLearner('n4', 'at-n4'))
  const [behind = '', current = ''] = others(cluster, leader.id)
  cluster.network.cut([behind], [leader.id])
  await cluster.apply(leader, numbered(0, 10))
  await cluster.settled(leader.transferLeadership())
  t.is(leader.leader, current)
})

test('a transfer in a group of one has nobody to go to', async (t) => {
  await using cluster = await MemoryCluster.start(1)
  t.is(await codeOf((await cluster.leader()).transferLeadership()), 'FAILED_PRECONDITION')
})

test('a transfer in a group of seven succeeds', async (t) => {
  await using cluster = await MemoryCluster.start(7)
  const leader = await cluster.leader()
  const target = at(others(cluster, leader.id), 3)
  await cluster.settled(leader.transferLeadership(target))
  t.is((await cluster.leader()).id, target)
})

test('transfers under writes lose nothing that was acknowledged', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const done: string[] = []
  for (let turn = 0; turn < 5; turn += 1) {
    const leader = await cluster.leader()
    writeAll(leader, numbered(turn * 100, 50), done)
    await cluster.clock.advance(1)
    await fateOf(cluster, leader.transferLeadership())
    writeAll(leader, numbered(turn * 100 + 50, 10), done)
  }
  await cluster.clock.advance(30_000)
  t.true(await agree(cluster, done))
  t.true(done.length > 100)
})

test('a transfer to who is no member, or is a learner, is refused', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  t.is(await codeOf(leader.transferLeadership('n9')), 'NOT_FOUND')
  await cluster.settled(leader.addLearner('n4', 'at-n4'))
  t.is(await codeOf(leader.transferLeadership('n4')), 'NOT_FOUND')
  await cluster.apply(leader, ['a'])
})

test('a transfer to itself has come true already', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await leader.transferLeadership(leader.id)
  t.is(leader.role, 'leader')
})

test('a transfer waits until its target has everything', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const target = at(others(cluster, leader.id), 0)
  cluster.network.cut([target], others(cluster, target))
  await cluster.apply(leader, numbered(0, 500))
  cluster.network.heal()
  await cluster.settled(leader.transferLeadership(target))
  t.is(cluster.raft(target).role, 'leader')
  t.true(await agree(cluster, numbered(0, 500)))
})

test('a transfer to who cannot be reached is given up, and the leader writes again', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const target = at(others(cluster, leader.id), 0)
  cluster.network.cut([target], others(cluster, target))
  await cluster.apply(leader, ['a'])
  const transfer = codeOf(leader.transferLeadership(target))
  t.is(await fateOf(cluster, leader.apply(bytes('x'))), 'UNAVAILABLE')
  t.is(await cluster.settled(transfer), 'TIMED_OUT')
  await cluster.apply(leader, ['b'])
})

test('a member that stops right after it asked for a transfer stops', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const transfer = codeOf(leader.transferLeadership())
  await cluster.down(leader.id)
  t.true(['SHUTTING_DOWN', 'ok'].includes(await transfer))
  await cluster.apply(await cluster.leader(), ['a'])
})
