/** Linearizable reads: by a round of heartbeats, by a lease, by way of the leader. */
import test from 'ava'
import { seededRandom } from '../../base/random.ts'
import { append, ofType, vote } from '../testing/core-messages.ts'
import { SAFE, LEASE, normal, TestGroup, TestMember, TEST_TICKS } from '../testing/test-member.ts'

const { electionTicks } = TEST_TICKS

test('a read is answered at the commit index of when it was asked, after a round', (t) => {
  const group = TestGroup.of(3)
  const leader = group.elect(1)
  leader.core.propose([normal()])
  group.settle()
  leader.core.readIndex(7)
  t.deepEqual(leader.reads, [])
  group.settle()
  t.deepEqual(leader.reads, [{ index: 2, context: 7 }])
})

test('a read waits for the first commit of its leader (bug 22)', (t) => {
  for (const size of [1, 3]) {
    const group = TestGroup.of(size)
    const leader = group.member(1)
    leader.core.campaign()
    group.lost = ({ type }) => type === 'app'
    if (size > 1) group.settle()
    else leader.core.advance(leader.core.ready())
    t.is(leader.role, 'leader')
    leader.core.readIndex(1)
    t.false(leader.core.hasReady() && leader.core.status().hard.commit > 0)
    if (size > 1) group.settle()
    t.deepEqual(leader.reads, [])
    group.heal()
    group.tick(2)
    t.deepEqual(leader.reads, [{ index: 1, context: 1 }])
  }
})

test('a leader that cannot prove itself answers nothing', (t) => {
  const group = TestGroup.of(3)
  const leader = group.elect(1)
  group.isolate(1)
  leader.core.readIndex(1)
  group.tick(3)
  t.deepEqual(leader.reads, [])
  group.heal()
  group.tick()
  t.is(leader.reads.length, 1)
})

test('a late answer to one read confirms no later one (bug 23)', (t) => {
  const group = TestGroup.of(3)
  const leader = group.elect(1)
  leader.core.readIndex(1)
  const [late] = group
    .member(2)
    .answer(ofType(leader.drain(), 'heartbeat')[0] ?? append({ term: 0 }))
  t.is(late?.type, 'heartbeatResp')
  leader.core.propose([normal()])
  leader.core.readIndex(2)
  leader.drain()
  if (late !== undefined) leader.answer(late)
  t.deepEqual(
    leader.reads.map(({ context }) => context),
    [1],
  )
})

test('a follower passes reads on, and takes no answer of an earlier life', (t) => {
  const group = TestGroup.of(3)
  group.elect(1)
  const follower = group.member(2)
  follower.core.readIndex(42)
  const [request] = ofType(follower.drain(), 'readIndex')
  t.truthy(request)
  if (request !== undefined) group.member(1).core.step(request)
  const delivered = group.settle()
  t.deepEqual(follower.reads, [{ index: 1, context: 42 }])
  // Restarted, it numbers its reads elsewhere.
  const [old] = ofType(delivered, 'readIndexResp')
  const reborn = new TestMember(2, { voters: [1, 2, 3] }, { random: seededRandom(99) })
  reborn.answer(append({ from: 1, to: 2, term: 1 }))
  reborn.core.readIndex(42)
  reborn.drain()
  if (old !== undefined) reborn.answer(old)
  t.deepEqual(reborn.reads, [])
})

test('a lease answers reads without a message, until it runs out', (t) => {
  const group = TestGroup.of(3, LEASE)
  const leader = group.elect(1)
  group.tick(2)
  group.isolate(1)
  leader.core.readIndex(1)
  t.deepEqual(leader.drain(), [])
  t.deepEqual(leader.reads, [{ index: 1, context: 1 }])
  leader.tick(electionTicks - 2)
  leader.core.readIndex(2)
  leader.drain()
  t.is(leader.reads.length, 1)
})

test('a transfer ends the lease for the rest of the term, even if it fails (bug 24)', (t) => {
  const group = TestGroup.of(3, LEASE)
  const leader = group.elect(1)
  group.tick(2)
  group.lost = ({ type }) => type === 'timeoutNow'
  leader.core.transferLeader(2)
  group.tick(2 * electionTicks)
  t.is(leader.core.status().transferee, 0)
  t.is(leader.role, 'leader')
  group.isolate(1)
  leader.core.readIndex(1)
  leader.drain()
  t.deepEqual(leader.reads, [])
})

test('a member that restarts keeps the lease that it may have supported', (t) => {
  const start = { voters: [1, 2, 3], hard: { term: 4 } }
  for (const [options, refuses] of [
    [LEASE, true],
    [SAFE, false],
  ] as const) {
    const member = new TestMember(2, start, options)
    member.core.step(vote({ term: 5, transfer: false }))
    t.is(member.term, refuses ? 4 : 5)
    member.core.campaign()
    t.is(member.role === 'follower', refuses)
    if (!refuses) continue
    member.tick(electionTicks)
    member.core.step(vote({ term: 5, transfer: false }))
    t.is(member.term, 5)
  }
})
