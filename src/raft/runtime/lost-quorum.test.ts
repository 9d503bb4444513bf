/* What stores hold, and going on after the loss of a quorum. */
import test from 'ava'
import { MemoryLogStore } from '../storage/memory-log-store.ts'
import { MemorySnapshotStore } from '../storage/memory-snapshot-store.ts'
import { bytes, codeOf, others } from './cluster-steps.ts'
import { MemoryCluster } from './memory-cluster.ts'
import { Raft } from './raft.ts'

test('stores tell whether they hold anything and who the members are', async (t) => {
  const cluster = new MemoryCluster()
  const place = cluster.place('n1')
  t.false(await Raft.hasExistingState(place))
  t.is(await Raft.readConfiguration(place), undefined)
  await Raft.bootstrap(place, [{ id: 'n1', address: 'at-n1', suffrage: 'voter' }])
  t.true(await Raft.hasExistingState(place))
  await cluster.up('n1')
  const leader = await cluster.leader()
  await cluster.settled(leader.addLearner('n2', 'at-n2'))
  await cluster.settled(leader.snapshot())
  await cluster.settled(leader.addLearner('n3', 'at-n3'))
  const { configuration } = leader
  t.is(await codeOf(Raft.hasExistingState(place)), 'FAILED_PRECONDITION', 'in use')
  await cluster.down('n1')
  t.deepEqual(await Raft.readConfiguration(place), configuration)
})

test('after the loss of a quorum one survivor goes on with what it has', async (t) => {
  for (const withSnapshot of [false, true]) {
    await using cluster = await MemoryCluster.start(3)
    const leader = await cluster.leader()
    await cluster.apply(leader, ['a', 'b'])
    await cluster.converged()
    if (withSnapshot) await cluster.settled(leader.snapshot())
    const place = cluster.place(leader.id)
    const servers = [{ id: leader.id, address: 'new', suffrage: 'voter' }] as const
    t.is(await codeOf(Raft.recover(place, servers)), 'FAILED_PRECONDITION', 'it runs')
    for (const id of cluster.places.keys()) await cluster.down(id)
    t.is(await codeOf(Raft.recover(place, [])), 'INVALID_ARGUMENT')
    await Raft.recover(place, servers)
    const survivor = await cluster.up(leader.id)
    await cluster.leader()
    t.deepEqual(survivor.configuration.servers, servers)
    t.deepEqual(cluster.commands(leader.id), ['a', 'b'])
    await cluster.apply(survivor, ['c'])
    await cluster.up('n9')
    await cluster.settled(survivor.addVoter('n9', 'at-n9', { staging: true }))
    await cluster.converged()
    t.deepEqual(cluster.commands('n9'), ['a', 'b', 'c'])
  }
})

test('a survivor that never knew of a commit takes what is in its log for committed', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  cluster.network.cut([leader.id], others(cluster, leader.id))
  void codeOf(leader.apply(bytes('unknown')))
  await cluster.clock.advance(50)
  for (const id of cluster.places.keys()) await cluster.down(id)
  await Raft.recover(cluster.place(leader.id), [{ id: leader.id, address: 'x', suffrage: 'voter' }])
  await cluster.up(leader.id)
  await cluster.leader()
  t.deepEqual(cluster.commands(leader.id), ['unknown'])
})

test('a recovery leaves a joint configuration and can keep several members', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const [kept = '', lost = ''] = others(cluster, leader.id)
  await cluster.settled(leader.addLearner('n4', 'at-n4'))
  await cluster.converged()
  // The leader appends the joint change and nothing after it.
  cluster.network.cut([leader.id], [kept, lost])
  void codeOf(
    leader.changeMembership([
      { type: 'removeServer', id: lost },
      { type: 'addVoter', id: 'n4', address: 'at-n4' },
    ]),
  )
  await cluster.clock.advance(50)
  for (const { id } of cluster.running) await cluster.down(id)
  const servers = [leader.id, kept].map(
    (id) => ({ id, address: `at-${id}`, suffrage: 'voter' }) as const,
  )
  await Raft.recover(cluster.place(leader.id), servers)
  cluster.network.heal()
  await cluster.up(leader.id)
  await cluster.up(kept)
  const next = await cluster.leader()
  t.is(next.id, leader.id, 'the other has the shorter log')
  t.false(next.configuration.joint)
  t.deepEqual(
    next.configuration.servers.map(({ id }) => id),
    servers.map(({ id }) => id).toSorted(),
  )
  await cluster.apply(next, ['a'])
  await cluster.converged()
})

test('empty stores cannot be recovered', async (t) => {
  const stores = { logStore: new MemoryLogStore(), snapshotStore: new MemorySnapshotStore() }
  const servers = [{ id: 'n1', address: 'x', suffrage: 'voter' }] as const
  t.is(await codeOf(Raft.recover(stores, servers)), 'FAILED_PRECONDITION')
})
