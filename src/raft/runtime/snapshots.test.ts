/* Snapshots: the log behind them, and members that need one. */
import test from 'ava'
import { at } from '../../base/assert.ts'
import { seededRandom } from '../../base/random.ts'
import { MemoryLogStore } from '../storage/memory-log-store.ts'
import { MemorySnapshotStore } from '../storage/memory-snapshot-store.ts'
import { SMALL_SNAPSHOTS as small, numbered, others } from './cluster-steps.ts'
import { MemoryCluster } from './memory-cluster.ts'
import { SlowLogStore } from './slow-log-store.ts'

test('the log is compacted behind snapshots, and a restart begins with the newest', async (t) => {
  await using cluster = await MemoryCluster.start(1, { raft: small })
  let raft = await cluster.leader()
  for (let turn = 0; turn < 10; turn += 1) await cluster.apply(raft, numbered(turn * 20, 20))
  const { firstIndex, snapshotIndex } = raft.stats()
  t.true(snapshotIndex >= 150)
  t.true(firstIndex > 100 && firstIndex <= snapshotIndex)
  await cluster.down('n1')
  raft = await cluster.up('n1')
  t.is(cluster.place('n1').machine.restores, 1)
  t.is(raft.configuration.servers.length, 1)
  await cluster.leader()
  t.deepEqual(cluster.commands('n1'), numbered(0, 200))
})

test('a follower and a new learner that are far behind get a snapshot', async (t) => {
  await using cluster = await MemoryCluster.start(3, { raft: small })
  const leader = await cluster.leader()
  const behind = at(others(cluster, leader.id), 0)
  await cluster.down(behind)
  for (let turn = 0; turn < 10; turn += 1) await cluster.apply(leader, numbered(turn * 20, 20))
  await cluster.up(behind)
  await cluster.up('n4')
  await cluster.settled(leader.addLearner('n4', 'at-n4'))
  await cluster.apply(leader, ['last'])
  await cluster.converged()
  for (const id of [behind, 'n4']) {
    t.deepEqual(cluster.commands(id), [...numbered(0, 200), 'last'])
    t.true(cluster.place(id).machine.restores > 0)
    t.is(cluster.raft(id).configuration.servers.length, 4)
  }
  await cluster.down('n4')
  await cluster.up('n4')
  await cluster.converged()
  t.deepEqual(cluster.commands('n4'), [...numbered(0, 200), 'last'])
})

test('a slow transfer is not overtaken by newer snapshots: one is enough', async (t) => {
  await using cluster = await MemoryCluster.start(3, { raft: small })
  const leader = await cluster.leader()
  const behind = at(others(cluster, leader.id), 0)
  await cluster.down(behind)
  for (let turn = 0; turn < 10; turn += 1) await cluster.apply(leader, numbered(turn * 20, 20))
  const before = leader.stats().snapshotIndex
  cluster.network.snapshotChunkMs = 10
  await cluster.up(behind)
  for (let turn = 10; turn < 40; turn += 1) {
    await cluster.apply(leader, numbered(turn * 20, 20))
    await cluster.clock.advance(50)
  }
  t.true(leader.stats().snapshotIndex > before + 300, 'newer ones were taken meanwhile')
  await cluster.converged()
  t.is(cluster.place(behind).machine.restores, 1)
  t.deepEqual(cluster.commands(behind), numbered(0, 800))
  await cluster.apply(leader, numbered(800, 100))
  t.true(leader.stats().firstIndex > 700, 'the log is no longer held')
})

test('after a cold boot alone a member applies all that it knew to be committed', async (t) => {
  await using cluster = await MemoryCluster.start(3, {
    stores: (_id, clock) => ({
      logStore: new SlowLogStore({ disk: new MemoryLogStore(), clock, random: seededRandom(1) }, 5),
      snapshotStore: new MemorySnapshotStore(),
    }),
  })
  const leader = await cluster.leader()
  await cluster.apply(leader, ['a', 'b'])
  await cluster.converged()
  await cluster.clock.advance(1000)
  for (const id of cluster.places.keys()) {
    const { logStore } = cluster.place(id)
    if (logStore instanceof SlowLogStore) logStore.crash()
  }
  for (const id of [...cluster.places.keys()]) await cluster.settled(cluster.down(id))
  const lonely = await cluster.settled(cluster.up('n2'))
  await cluster.clock.advance(5000)
  t.deepEqual(cluster.commands('n2'), ['a', 'b'])
  t.is(lonely.configuration.servers.length, 3)
  t.is(lonely.leader, undefined)
})

test('a snapshot transfer that breaks is tried again', async (t) => {
  await using cluster = await MemoryCluster.start(3, { raft: small })
  const leader = await cluster.leader()
  const behind = at(others(cluster, leader.id), 0)
  await cluster.down(behind)
  for (let turn = 0; turn < 10; turn += 1) await cluster.apply(leader, numbered(turn * 20, 20))
  cluster.network.breakSnapshots(3)
  await cluster.up(behind)
  await cluster.converged()
  t.deepEqual(cluster.commands(behind), numbered(0, 200))
})
