/**
 * What the core promises beyond the paper; the numbers are those of the bug list, reference/raft.md
 * §1.2.
 */
import test from 'ava'
import { acceptance, append, ofType, vote } from '../testing/core-messages.ts'
import {
  LEASE,
  SAFE,
  entry,
  normal,
  TestGroup,
  TestMember,
  TEST_TICKS,
} from '../testing/test-member.ts'
import type { Term } from './entry.ts'
import type { Message } from './message.ts'

const { electionTicks } = TEST_TICKS

test('a member that was cut off returns without disturbing the leader (bug 1)', (t) => {
  const group = TestGroup.of(3, SAFE)
  const leader = group.elect(1)
  group.isolate(3)
  group.tick(10 * electionTicks)
  t.is(group.member(3).role, 'preCandidate')
  group.heal()
  group.tick(3 * electionTicks)
  t.deepEqual(group.leaders(), [1])
  t.is(leader.term, 1)
  t.is(group.member(3).term, 1)
})

test('a leader that reaches only a bridge makes room for the connected majority (bug 3)', (t) => {
  const group = TestGroup.of(5, SAFE)
  group.elect(1)
  group.lost = ({ from, to }) => (from === 1 && to > 2) || (to === 1 && from > 2)
  group.tick(6 * electionTicks)
  const [leader] = group.leaders().filter((id) => id !== 1)
  t.truthy(leader)
  const member = group.member(leader ?? 0)
  member.core.propose([normal('on')])
  group.settle()
  t.deepEqual(member.applied.at(-1)?.data, normal('on').data)
})

test('a leader without a quorum steps down', (t) => {
  const group = TestGroup.of(3, SAFE)
  group.elect(1)
  group.isolate(1)
  group.tick(2 * electionTicks)
  t.not(group.member(1).role, 'leader')
})

test('who hears a leader ignores candidates, except those that the leader sent', (t) => {
  const group = TestGroup.of(3, SAFE)
  group.elect(1)
  const voter = group.member(2)
  voter.core.step(vote({ term: 5, transfer: false }))
  t.is(voter.term, 1)
  voter.core.step(vote({ term: 5, transfer: true }))
  t.is(voter.term, 5)
  t.deepEqual(ofType(voter.drain(), 'voteResp')[0]?.reject, false)
})

test('a vote outlives stepping down within the term (bug 4)', (t) => {
  const member = new TestMember(1, { voters: [1, 2, 3] })
  member.core.campaign()
  member.drain()
  member.answer(append({ term: 1 }))
  t.is(member.role, 'follower')
  const request: Message = { ...vote({ term: 1, transfer: false }), to: 1 }
  t.true(ofType(member.answer(request), 'voteResp')[0]?.reject)
})

test('what is on its way to a follower is limited in messages and in bytes', (t) => {
  const sizes = { maxBytesPerMessage: 30, maxInflightBytes: 60 }
  for (const [options, sent] of [
    [{ maxInflightMessages: 3 }, 3],
    [{ ...sizes, maxInflightMessages: 100 }, 2],
  ] as const) {
    const group = TestGroup.of(3, options)
    const leader = group.elect(1)
    for (let i = 0; i < 10; i += 1) leader.core.propose([normal('x'.repeat(30))])
    const first = ofType(leader.drain(), 'app').filter(({ to }) => to === 2)
    t.is(first.length, sent)
    t.true(leader.core.progress().get(2)?.paused)
    // An acknowledgement opens the window again.
    const more = leader.answer(acceptance(2, 1, first[0]?.entries.at(-1)?.index ?? 0))
    t.is(ofType(more, 'app').filter(({ entries }) => entries.length > 0).length, 1)
  }
})

test('a follower whose window was lost is found by the next heartbeat (bug 9)', (t) => {
  const group = TestGroup.of(3, { maxInflightMessages: 2 })
  const leader = group.elect(1)
  group.isolate(3)
  for (let i = 0; i < 5; i += 1) leader.core.propose([normal()])
  group.settle()
  group.heal()
  group.tick(2)
  t.deepEqual(group.member(3).terms, leader.terms)
})

test('proposals are dropped while too much waits for commit', (t) => {
  const group = TestGroup.of(3, { maxUncommittedBytes: 100 })
  const leader = group.elect(1)
  const big = [normal('x'.repeat(200))]
  t.is(leader.core.propose(big), 'ok')
  t.is(leader.core.propose(big), 'dropped')
  t.is(leader.core.propose([normal()]), 'ok')
  group.settle()
  t.is(leader.core.propose(big), 'ok')
})

test('a follower commits no entry that the leader has not confirmed', (t) => {
  const follower = new TestMember(1, { voters: [1, 2, 3], terms: [1, 1, 1] })
  follower.answer(append({ term: 2, index: 1, logTerm: 1, commit: 3 }))
  t.is(follower.commit, 1)
  follower.answer(append({ term: 2, index: 1, logTerm: 1, entries: [entry(2, 1)], commit: 3 }))
  t.is(follower.commit, 2)
})

test('a long divergent tail costs one refusal a term, not one an entry (bug 8)', (t) => {
  const voters = [1, 2, 3]
  const tail = (term: Term): Term[] => Array.from({ length: 500 }, () => term)
  const leader = new TestMember(1, { voters, terms: [1, ...tail(3)] })
  const follower = new TestMember(2, { voters, terms: [1, ...tail(2)], hard: { term: 3 } })
  const group = new TestGroup([leader, follower, new TestMember(3, { voters })])
  leader.core.campaign()
  const delivered = group.settle()
  t.deepEqual(follower.terms, leader.terms)
  t.true(ofType(delivered, 'appResp').filter(({ reject }) => reject).length <= 3)
})

test('entries that cannot be read now are sent after the next heartbeat', (t) => {
  const group = TestGroup.of(3)
  const leader = group.elect(1)
  group.isolate(2, 3)
  leader.core.propose([normal('late')])
  group.settle()
  const entries = leader.log.entries.bind(leader.log)
  leader.core.reportUnreachable(2)
  leader.log.entries = () => 'unavailable' as never
  group.heal()
  group.lost = ({ to, from }) => to === 3 || from === 3
  group.tick()
  t.is(group.member(2).log.lastIndex(), 1)
  leader.log.entries = entries
  group.tick()
  t.is(group.member(2).log.lastIndex(), 2)
})

test('one seed and one input give one output', (t) => {
  const run = (): unknown => {
    const group = TestGroup.of(5, SAFE)
    group.tick(30)
    for (const { core } of group.members.values()) core.propose([normal('x')])
    return [group.settle(), [...group.members.values()].map(({ core }) => core.status())]
  }
  t.deepEqual(run(), run())
})

test('a follower forwards proposals, unless it is told not to', (t) => {
  for (const disableProposalForwarding of [false, true]) {
    const group = TestGroup.of(3, { disableProposalForwarding })
    const leader = group.elect(1)
    const result = group.member(2).core.propose([normal('x')])
    group.settle()
    t.is(result, disableProposalForwarding ? 'dropped' : 'ok')
    t.is(leader.applied.length, disableProposalForwarding ? 1 : 2)
  }
})

test('local messages are refused from the network, and answers from strangers', (t) => {
  const { core } = TestGroup.of(3).elect(1)
  for (const type of ['hup', 'beat', 'checkQuorum', 'unreachable', 'forgetLeader'] as const)
    t.is(core.step({ type, from: 2, to: 1, term: 0 }), 'localMessage')
  t.is(core.step(acceptance(9, 1, 1)), 'peerNotFound')
})

test('a follower that forgets its leader votes again at once, except with leases', (t) => {
  for (const [options, forgets] of [
    [SAFE, true],
    [LEASE, false],
  ] as const) {
    const group = TestGroup.of(3, options)
    group.elect(1)
    const follower = group.member(2)
    follower.core.forgetLeader()
    t.is(follower.core.status().lead === 0, forgets)
    follower.core.step(vote({ term: 5, transfer: false }))
    t.is(follower.term === 5, forgets)
  }
})
