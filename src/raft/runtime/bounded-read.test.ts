import test from 'ava'
import { bytes, codeOf, follower, others } from './cluster-steps.ts'
import { BOUNDED_READS_REST_MS, Freshness } from './freshness.ts'
import { MemoryCluster } from './memory-cluster.ts'
import type { Raft } from './raft.ts'
import { SimulatedClock } from './simulated-clock.ts'

const BOUND_MS = 500

function bounded(
  raft: Raft<number>,
  maxStalenessMs = BOUND_MS,
  timeoutMs?: number,
): Promise<number> {
  const wait = timeoutMs === undefined ? {} : { timeoutMs }
  return raft.read((index) => index, { consistency: 'bounded', maxStalenessMs, ...wait })
}

test('a bounded read is refused without proof, and answered at once when there is one', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.apply(leader, ['a'])
  await cluster.converged()
  for (const raft of cluster.running) {
    t.is(await codeOf(bounded(raft)), 'UNAVAILABLE', 'nothing was asked yet')
    await cluster.clock.advance(100)
    t.is(await bounded(raft), raft.appliedIndex, 'the refusal asked for the proof')
  }
})

test('a bounded read with time to wait asks for its proof', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const { index } = await cluster.settled(leader.apply(bytes('a')))
  for (const raft of cluster.running) {
    t.true((await cluster.settled(bounded(raft, BOUND_MS, 1000))) >= index)
  }
})

test('proofs are renewed while bounded reads are made, and nothing is asked at rest', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const reader = follower(cluster, leader)
  await cluster.settled(bounded(reader, BOUND_MS, 1000))
  for (let turn = 0; turn < 40; turn += 1) {
    await cluster.clock.advance(BOUND_MS / 2)
    await t.notThrowsAsync(bounded(reader), `turn ${turn}`)
  }
  await cluster.clock.advance(BOUNDED_READS_REST_MS + 2 * BOUND_MS)
  t.is(await codeOf(bounded(reader)), 'UNAVAILABLE')
})

test('a member that is cut off answers bounded reads until their bound, and no longer', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const reader = follower(cluster, leader)
  await cluster.settled(bounded(reader, BOUND_MS, 1000))
  cluster.network.cut([reader.id], others(cluster, reader.id))
  await cluster.apply(leader, ['unseen'])
  await t.notThrowsAsync(bounded(reader))
  await cluster.clock.advance(BOUND_MS + 1)
  t.is(await codeOf(bounded(reader)), 'UNAVAILABLE')
  t.is(await codeOf(cluster.settled(bounded(reader, BOUND_MS, 700))), 'TIMED_OUT')
  cluster.network.heal()
  await cluster.settled(bounded(reader, BOUND_MS, 10_000))
  t.deepEqual(cluster.commands(reader.id), ['unseen'])
})

test('a leader that hears heartbeats answered by nobody cannot prove its age either', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.settled(bounded(leader, BOUND_MS, 1000))
  for (const id of others(cluster, leader.id)) await cluster.down(id)
  await cluster.clock.advance(BOUND_MS + 1)
  t.is(leader.role, 'leader')
  t.is(await codeOf(bounded(leader)), 'UNAVAILABLE')
})

test('a leader with a lease answers bounded reads alone', async (t) => {
  await using cluster = await MemoryCluster.start(3, { raft: { leaseReads: true } })
  const leader = await cluster.leader()
  await cluster.apply(leader, ['a'])
  await cluster.clock.advance(300)
  await t.notThrowsAsync(bounded(leader))
})

test('a bound must be given, and positive', async (t) => {
  await using cluster = await MemoryCluster.start(1)
  const raft = await cluster.leader()
  for (const bound of [0, -1, Number.NaN]) {
    t.is(await codeOf(bounded(raft, bound)), 'INVALID_ARGUMENT')
  }
  t.is(await codeOf(raft.read((index) => index, { consistency: 'bounded' })), 'INVALID_ARGUMENT')
})

test('an answer proves the age of a state that has applied it, counted from its question', async (t) => {
  const clock = new SimulatedClock()
  const freshness = new Freshness(clock)
  const startMs = clock.monotonicMs()
  t.is(freshness.ageMs(100), Number.POSITIVE_INFINITY)
  await clock.advance(50)
  freshness.note(startMs, 7)
  t.is(freshness.ageMs(6), Number.POSITIVE_INFINITY, 'not applied yet')
  t.is(freshness.ageMs(7), 50, 'the answer took so long')
  freshness.note(startMs + 40, 9)
  freshness.note(startMs + 10, 8)
  t.is(freshness.ageMs(8), 40)
  freshness.note(startMs + 20, 9)
  t.is(freshness.ageMs(9), 10, 'a late answer to an older question takes nothing away')
  freshness.note(startMs + 45, 12)
  freshness.note(startMs + 48, 11)
  t.is(freshness.ageMs(11), 2, 'a later question with a smaller answer')
})
