/** How leadership is handed over. */
import test from 'ava'
import { acceptance, change } from '../testing/core-messages.ts'
import { SAFE, normal, TestGroup, TestMember, TEST_TICKS } from '../testing/test-member.ts'

const { electionTicks } = TEST_TICKS

test('leadership is handed over at once, and the old leader follows', (t) => {
  const group = TestGroup.of(3, SAFE)
  const leader = group.elect(1)
  leader.core.transferLeader(3)
  t.is(leader.core.propose([normal()]), 'dropped')
  group.settle()
  t.deepEqual(group.leaders(), [3])
  t.is(leader.core.status().lead, 3)
  t.is(leader.core.status().transferee, 0)
})

test('the target is brought up to date first, also when a follower asks', (t) => {
  const group = TestGroup.of(3, SAFE)
  const leader = group.elect(1)
  group.isolate(3)
  leader.core.propose([normal('x')])
  group.settle()
  group.heal()
  group.member(2).core.transferLeader(3)
  group.tick(2)
  t.deepEqual(group.leaders(), [3])
  t.deepEqual(group.member(3).terms, [1, 1, 2])
})

test('a transfer that fails is given up after an election timeout (bug 26)', (t) => {
  const group = TestGroup.of(3)
  const leader = group.elect(1)
  group.isolate(3)
  leader.core.transferLeader(3)
  group.settle()
  t.is(leader.core.propose([normal()]), 'dropped')
  leader.tick(electionTicks)
  t.is(leader.core.propose([normal()]), 'ok')
  t.is(leader.term, 1)
})

test('leadership goes to no learner, no stranger, and not to the leader itself', (t) => {
  const start = { voters: [1, 2], learners: [3] }
  const group = new TestGroup([1, 2, 3].map((id) => new TestMember(id, start)))
  const leader = group.elect(1)
  for (const to of [1, 3, 9]) leader.core.transferLeader(to)
  group.settle()
  t.is(leader.core.status().transferee, 0)
  t.is(leader.core.propose([normal()]), 'ok')
})

test('a transfer ends when its target is removed', (t) => {
  const group = TestGroup.of(3)
  const leader = group.elect(1)
  leader.core.proposeConfChange(change('r3'))
  leader.drain()
  group.isolate(3)
  leader.core.transferLeader(3)
  leader.answer(acceptance(2, 1, 2))
  t.deepEqual(leader.core.status().conf.voters, [1, 2])
  t.is(leader.core.status().transferee, 0)
})
