/** Restoring a state from outside, into a group that runs. */
import test from 'ava'
import { at } from '../../base/assert.ts'
import { bytes, codeOf, fateOf, follower, numbered, others, source } from './cluster-steps.ts'
import { MemoryCluster } from './memory-cluster.ts'

test('a restored state replaces everything on every member, and writes go on behind it', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.apply(leader, numbered(0, 20))
  const before = leader.lastIndex
  const index = await cluster.settled(leader.restore(source('x\ny', '\nz\n'), { sizeBytes: 6 }))
  t.true(index > before)
  await cluster.apply(leader, ['after'])
  await cluster.converged()
  for (const id of cluster.places.keys()) {
    t.deepEqual(cluster.commands(id), ['x', 'y', 'z', 'after'])
    t.is(cluster.raft(id).configuration.servers.length, 3)
  }
  for (const id of cluster.places.keys()) await cluster.down(id)
  for (const id of cluster.places.keys()) await cluster.up(id)
  await cluster.leader()
  await cluster.converged()
  for (const id of cluster.places.keys()) {
    t.deepEqual(cluster.commands(id), ['x', 'y', 'z', 'after'])
  }
})

test('a restore aborts what waits, refuses writes meanwhile, and runs once', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const gate = Promise.withResolvers<void>()
  async function* slow(): AsyncGenerator<Uint8Array> {
    yield bytes('x\n')
    await gate.promise
    yield bytes('y\n')
  }
  const waiting = codeOf(leader.apply(bytes('waits')))
  const restore = leader.restore(slow())
  t.is(await cluster.settled(waiting), 'ABORTED')
  t.is(await codeOf(leader.apply(bytes('z'))), 'UNAVAILABLE')
  t.is(await codeOf(leader.restore(source('q'))), 'FAILED_PRECONDITION')
  await cluster.clock.advance(100)
  t.is(await codeOf(leader.addLearner('n9', 'at-n9')), 'UNAVAILABLE')
  const { metadata } = await cluster.settled(leader.snapshot())
  gate.resolve()
  const index = await cluster.settled(restore)
  // Begin, two pieces, end: the snapshot stands before them, since it would not hold the pieces.
  t.true(metadata.index <= index - 4)
  t.deepEqual(cluster.commands(leader.id), ['x', 'y'])
  t.is(await codeOf(follower(cluster, leader).restore(source('q'))), 'NOT_LEADER')
})

test('a restore that breaks off, or is not whole, changes nothing', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.apply(leader, ['kept'])
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield bytes('x\n')
    throw new Error('tape torn')
  }
  t.is(await fateOf(cluster, leader.restore(broken())), 'Error: tape torn')
  t.is(await fateOf(cluster, leader.restore(source('x\n'), { sizeBytes: 3 })), 'INVALID_ARGUMENT')
  await cluster.apply(leader, ['more'])
  await cluster.converged()
  for (const id of cluster.places.keys()) t.deepEqual(cluster.commands(id), ['kept', 'more'])
  await cluster.settled(leader.snapshot())
})

test('a restore whose leader is lost is abandoned by all, and snapshots are taken again', async (t) => {
  await using cluster = await MemoryCluster.start(3, {
    raft: { snapshotThreshold: 20, trailingEntries: 5 },
  })
  const leader = await cluster.leader()
  await cluster.apply(leader, ['kept'])
  async function* endless(): AsyncGenerator<Uint8Array> {
    yield bytes('x\n')
    await new Promise(() => {})
  }
  void codeOf(leader.restore(endless()))
  await cluster.clock.advance(200)
  cluster.network.cut([leader.id], others(cluster, leader.id))
  const next = await cluster.leader(others(cluster, leader.id))
  await cluster.apply(next, numbered(0, 50))
  cluster.network.heal()
  await cluster.leader()
  await cluster.converged()
  for (const id of cluster.places.keys()) {
    t.deepEqual(cluster.commands(id), ['kept', ...numbered(0, 50)])
  }
  t.true(next.stats().snapshotIndex > 20)
})

test('a member that was away gets a restored state like any other', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const away = at(others(cluster, leader.id), 0)
  await cluster.down(away)
  await cluster.settled(leader.restore(source('x\n')))
  await cluster.apply(leader, ['after'])
  await cluster.up(away)
  await cluster.converged()
  t.deepEqual(cluster.commands(away), ['x', 'after'])
})
