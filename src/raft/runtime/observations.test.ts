/** What a member tells who listens: observations, failures, figures. */
import test from 'ava'
import { SwarmError } from '../../base/errors.ts'
import { MemoryLogStore } from '../storage/memory-log-store.ts'
import { bytes, codeOf, collect, others } from './cluster-steps.ts'
import { MemoryCluster } from './memory-cluster.ts'

test('observations tell of leaders, roles, members, silence and snapshots', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const [quiet = '', other = ''] = others(cluster, leader.id)
  const stream = leader.observe()
  await cluster.clock.advance(1000)
  cluster.network.cut([leader.id], [quiet])
  await cluster.clock.advance(3000)
  cluster.network.heal()
  await cluster.clock.advance(500)
  await cluster.apply(leader, ['a'])
  await cluster.settled(leader.snapshot())
  await cluster.settled(leader.addLearner('n4', 'at-n4'))
  await cluster.settled(leader.transferLeadership(other))
  await cluster.down(leader.id)
  const seen = await collect(stream, [])
  const types = seen.map(({ type }) => type)
  t.deepEqual(types.slice(0, 2), ['failedHeartbeat', 'resumedHeartbeat'])
  t.like(seen[0], { peer: quiet })
  for (const type of ['snapshotTaken', 'configuration', 'role', 'leader'] as const) {
    t.true(types.includes(type), type)
  }
  const n4 = { id: 'n4', address: 'at-n4', suffrage: 'learner' } as const
  t.deepEqual(
    seen.find(({ type }) => type === 'peerAdded'),
    { type: 'peerAdded', peer: n4 },
  )
  t.deepEqual(
    seen.findLast(({ type }) => type === 'leader'),
    {
      type: 'leader',
      leader: other,
      term: cluster.raft(other).term,
    },
  )
  t.is(stream.dropped, 0)
})

test('a listener that does not read loses the oldest, counted, and holds nobody up', async (t) => {
  await using cluster = await MemoryCluster.start(1)
  const leader = await cluster.leader()
  const stream = leader.observe(['configuration'], { limit: 3 })
  for (let turn = 0; turn < 10; turn += 1) {
    await cluster.settled(leader.addLearner(`l${turn}`, 'nowhere'))
  }
  t.is(stream.dropped, 7)
  await cluster.down('n1')
  const seen = await collect(stream, [])
  const sizes = seen.map((one) =>
    one.type === 'configuration' ? one.configuration.servers.length : 0,
  )
  t.deepEqual(sizes, [9, 10, 11])
})

test('a stream ends with its signal, with its loop, and with the member', async (t) => {
  const cluster = await MemoryCluster.start(1)
  const leader = await cluster.leader()
  const stop = new AbortController()
  const aborted = collect(leader.observe(undefined, { signal: stop.signal }), [])
  stop.abort()
  t.deepEqual(await aborted, [])
  const left = leader.observe(['configuration'])
  await cluster.settled(leader.addLearner('n2', 'nowhere'))
  for await (const { type } of left) {
    t.is(type, 'configuration')
    break
  }
  await cluster.settled(leader.addLearner('n3', 'nowhere'))
  t.deepEqual(await collect(left, []), [], 'it collects no more')
  const ended = collect(leader.observe(), [])
  const leadership = (async () => {
    let count = 0
    for await (const _ of leader.leadership()) count += 1
    return count
  })()
  await cluster[Symbol.asyncDispose]()
  await ended
  t.true((await leadership) >= 1)
  t.deepEqual(await collect(leader.observe(), []), [])
})

test('a failure is the last that a member tells', async (t) => {
  await using cluster = await MemoryCluster.start(1)
  const leader = await cluster.leader()
  const stream = leader.observe(['fatal'])
  const { logStore } = cluster.place('n1')
  if (logStore instanceof MemoryLogStore) logStore.failWith(new SwarmError('STORAGE_FULL', 'full'))
  void codeOf(leader.apply(bytes('x')))
  await cluster.clock.advance(100)
  const [last] = await collect(stream, [])
  t.true(last?.type === 'fatal' && last.error.code === 'STORAGE_FULL')
})

test('figures go to the sink under names with units', async (t) => {
  const counted = new Map<string, number>()
  const gauges = new Map<string, number>()
  const timings: number[] = []
  await using cluster = await MemoryCluster.start(1, {
    metrics: {
      count: (name, value) => counted.set(name, (counted.get(name) ?? 0) + value),
      gauge: (name, value) => gauges.set(name, value),
      timing: (_name, seconds) => void timings.push(seconds),
    },
  })
  const leader = await cluster.leader()
  await cluster.apply(leader, ['abc', 'de'])
  await cluster.settled(leader.snapshot())
  await cluster.clock.advance(2000)
  t.is(counted.get('raft_log_write_bytes_total'), 5)
  t.true((counted.get('raft_log_writes_total') ?? 0) >= 2)
  t.is(counted.get('raft_leadership_won_total'), 1)
  t.is(counted.get('raft_snapshots_taken_total'), 1)
  t.is(gauges.get('raft_is_leader'), 1)
  t.is(gauges.get('raft_applied_index'), leader.appliedIndex)
  t.is(timings.length, counted.get('raft_log_writes_total') ?? 0)
})

test('observers are told who comes and who goes', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const [gone = ''] = others(cluster, leader.id)
  const stream = leader.observe(['peerAdded', 'peerRemoved'])
  await cluster.settled(leader.addLearner('n4', 'at-n4'))
  await cluster.settled(leader.demoteVoter(gone))
  await cluster.settled(leader.removeServer(gone))
  await leader.shutdown()
  const seen = await collect(stream, [])
  const told = seen.map((one) => ('peer' in one && typeof one.peer === 'object' ? one.peer.id : ''))
  t.deepEqual(told, ['n4', gone])
  t.deepEqual(
    seen.map(({ type }) => type),
    ['peerAdded', 'peerRemoved'],
  )
  cluster.place(leader.id).raft = undefined
})

test('a state machine knows the members at its place, by log, snapshot and restart', async (t) => {
  await using cluster = await MemoryCluster.start(3, { raft: { trailingEntries: 0 } })
  const leader = await cluster.leader()
  const told = (id: string): readonly string[] => cluster.place(id).machine.members
  t.deepEqual(told(leader.id), ['n1', 'n2', 'n3'])
  await cluster.settled(leader.addLearner('n4', 'at-n4'))
  await cluster.apply(leader, ['a'])
  t.deepEqual(told(leader.id), ['n1', 'n2', 'n3', 'n4'])
  await cluster.settled(leader.snapshot())
  await cluster.settled(cluster.up('n4'))
  await cluster.converged()
  t.deepEqual(told('n4'), ['n1', 'n2', 'n3', 'n4'], 'a snapshot brought it')
  await cluster.settled(cluster.raft('n4').snapshot())
  await cluster.down('n4')
  await cluster.settled(cluster.up('n4'))
  t.deepEqual(told('n4'), ['n1', 'n2', 'n3', 'n4'], 'its own snapshot did')
})
