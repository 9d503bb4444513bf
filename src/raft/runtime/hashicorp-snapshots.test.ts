/* Behaviours of hashicorp/raft's suite (see hashicorp-behaviours.test.ts): snapshots. */
import test from 'ava'
import { at } from '../../base/assert.ts'
import { silentLogger } from '../../base/log.ts'
import { seededRandom } from '../../base/random.ts'
import {
  SMALL_SNAPSHOTS as small,
  agree,
  bytes,
  codeOf,
  fateOf,
  follower,
  numbered,
  others,
  source,
} from './cluster-steps.ts'
import { ListMachine, MemoryCluster } from './memory-cluster.ts'
import { memberNumber } from './member-numbers.ts'
import { Raft } from './raft.ts'
import { sampleTransfer } from '../testing/sample-transfer.ts'

test('a member restarts from its snapshot and the log behind it, also with other peers', async (t) => {
  await using cluster = await MemoryCluster.start(3, { raft: small })
  const leader = await cluster.leader()
  for (let turn = 0; turn < 8; turn += 1) await cluster.apply(leader, numbered(turn * 20, 20))
  await cluster.settled(leader.addLearner('n4', 'at-n4'))
  await cluster.converged(['n1', 'n2', 'n3'])
  for (const id of ['n1', 'n2', 'n3']) await cluster.down(id)
  const restarted = await cluster.up('n2')
  t.is(cluster.place('n2').machine.restores, 1)
  await cluster.up('n3')
  await cluster.leader()
  t.true(restarted.configuration.servers.length === 4)
  t.deepEqual(cluster.commands('n2'), numbered(0, 160))
})

test('a snapshot that was asked for is taken once and then named again', async (t) => {
  await using cluster = await MemoryCluster.start(1)
  const leader = await cluster.leader()
  await cluster.apply(leader, ['a'])
  const first = await cluster.settled(leader.snapshot())
  const again = await cluster.settled(leader.snapshot())
  t.is(again.id, first.id)
  t.is(first.metadata.index, leader.appliedIndex)
})

test('a snapshot of nothing is refused', async (t) => {
  await using cluster = new MemoryCluster()
  const raft = await cluster.up('n1')
  t.is(await codeOf(raft.snapshot()), 'FAILED_PRECONDITION')
})

test('snapshots are taken by themselves', async (t) => {
  await using cluster = await MemoryCluster.start(1, { raft: small })
  const leader = await cluster.leader()
  for (let turn = 0; turn < 6; turn += 1) await cluster.apply(leader, numbered(turn * 10, 10))
  await cluster.until(() => leader.stats().snapshotIndex >= 50, 'a snapshot')
  t.pass()
})

for (const withLogs of [false, true]) {
  const what = withLogs ? 'a snapshot and the log behind it' : 'a snapshot'
  test(`a follower that is far behind is sent ${what}`, async (t) => {
    await using cluster = await MemoryCluster.start(3)
    const leader = await cluster.leader()
    const behind = at(others(cluster, leader.id), 0)
    await cluster.down(behind)
    await cluster.apply(leader, numbered(0, 100))
    leader.reloadConfig({ trailingEntries: 0 })
    await cluster.settled(leader.snapshot())
    await cluster.until(() => leader.stats().firstIndex > 100, 'compaction')
    if (withLogs) await cluster.apply(leader, numbered(100, 100))
    await cluster.up(behind)
    t.true(await agree(cluster, numbered(0, withLogs ? 200 : 100)))
    t.is(cluster.place(behind).machine.restores, 1)
  })
}

test('a user restores old states again and again, between and after writes', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  for (const offset of [0, 1, 2, 100]) {
    await cluster.apply(leader, numbered(0, 10))
    const before = leader.lastIndex
    await cluster.apply(leader, numbered(10, offset))
    const pending = codeOf(leader.apply(bytes('in flight')))
    const index = await cluster.settled(leader.restore(source('old\nstate\n')))
    t.true(['ABORTED', 'ok'].includes(await pending))
    t.true(index > before + offset)
    await cluster.apply(leader, ['new'])
    await cluster.converged()
    for (const { id } of cluster.running) t.deepEqual(cluster.commands(id), ['old', 'state', 'new'])
  }
  const last = follower(cluster, leader).id
  await cluster.down(last)
  await cluster.up(last)
  await cluster.converged()
  t.deepEqual(cluster.commands(last), ['old', 'state', 'new'])
})

test('a snapshot that does not name its receiver, or comes from nobody, changes nothing', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.apply(leader, ['kept'])
  const transport = cluster.network.transport('stranger')
  const conf = {
    voters: [memberNumber('stranger')],
    votersOutgoing: [],
    learners: [],
    learnersNext: [],
    autoLeave: false,
  }
  const metadata = { index: 1000, term: leader.term, conf }
  const to = memberNumber('n1')
  const head = { from: memberNumber('stranger'), to, term: leader.term }
  const message = { type: 'snap', ...head, snapshot: { metadata } } as const
  const evil = { ...sampleTransfer([bytes('evil\n')]), membership: new Uint8Array() }
  const sent = transport.sendSnapshot(
    'n1',
    { ...evil, message, metadata },
    { signal: new AbortController().signal },
  )
  await fateOf(cluster, sent)
  await cluster.clock.advance(1000)
  t.deepEqual(cluster.commands('n1'), ['kept'])
  t.is(cluster.raft('n1').configuration.servers.length, 3)
  await transport.close()
})

test('stores that do not fit together are refused at the start', async (t) => {
  await using cluster = await MemoryCluster.start(1, { raft: small })
  const leader = await cluster.leader()
  for (let turn = 0; turn < 6; turn += 1) await cluster.apply(leader, numbered(turn * 20, 20))
  await cluster.until(() => leader.stats().firstIndex > 10, 'compaction')
  await cluster.down('n1')
  const empty = new MemoryCluster().place('n1').snapshotStore
  const { logStore } = cluster.place('n1')
  const { clock } = cluster
  const opened = Raft.open(
    {
      logStore,
      snapshotStore: empty,
      transport: cluster.network.transport('n1'),
      stateMachine: new ListMachine(),
      clock,
      random: seededRandom(1),
      log: silentLogger,
    },
    { id: 'n1', address: 'x' },
  )
  t.is(await codeOf(opened), 'STORAGE_CORRUPT')
})
