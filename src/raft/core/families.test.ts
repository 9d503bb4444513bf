/**
 * Bug families of others (reference/raft.md §1.2) that no other test of the core would notice.
 * `../testing/families.ts` holds the mistakes and the tests that must fail with each.
 */
import test from 'ava'
import { seededRandom } from '../../base/random.ts'
import { ofType } from '../testing/core-messages.ts'
import { EMPTY_SNAPSHOT, MemoryLog } from '../testing/memory-log.ts'
import { normal, SAFE, TestGroup, TestMember, TEST_TICKS } from '../testing/test-member.ts'
import type { PeerId, Snapshot, Term } from './entry.ts'
import type { Message } from './message.ts'
import { RaftCore } from './raft-core.ts'

function preVote(from: PeerId, to: PeerId, term: Term): Message {
  return { type: 'preVote', from, to, term, logTerm: 9, index: 9, transfer: false }
}

test('a pre-vote of an earlier term is refused in the later one, which its sender adopts (bug 2)', (t) => {
  const voters = [1, 2]
  const ahead = new TestMember(1, { voters, terms: [1], hard: { term: 5 } }, SAFE)
  const behind = new TestMember(2, { voters, terms: [1, 1], hard: { term: 2 } }, SAFE)
  const [answer] = ofType(ahead.answer(preVote(2, 1, 3)), 'preVoteResp')
  t.like(answer, { reject: true, term: 5 })
  // Else each would refuse the other for ever: one has the log, the other has the term.
  behind.core.campaign()
  behind.drain()
  if (answer !== undefined) behind.answer(answer)
  t.is(behind.term, 5)
  const group = new TestGroup([ahead, behind])
  behind.core.campaign()
  group.settle()
  t.deepEqual(group.leaders(), [2])
})

test('who asks for pre-votes has forgotten its leader, and grants those of others (bug 2)', (t) => {
  const group = TestGroup.of(3, SAFE)
  group.elect(1)
  const member = group.member(2)
  member.core.campaign()
  member.drain()
  t.like(ofType(member.answer(preVote(3, 2, 2)), 'preVoteResp')[0], { reject: false, term: 2 })
})

test('a member with a higher term is freed by its answer to the leader of the lower one (bug 2)', (t) => {
  const group = TestGroup.of(3, SAFE)
  const leader = group.elect(1)
  group.isolate(3)
  const stuck = group.member(3)
  stuck.core.step({ type: 'vote', from: 2, to: 3, term: 7, logTerm: 0, index: 0, transfer: true })
  stuck.drain()
  t.is(stuck.term, 7)
  group.heal()
  group.tick(4 * TEST_TICKS.electionTicks)
  t.is(group.leaders().length, 1)
  leader.core.propose([normal()])
  group.settle()
  t.is(stuck.commit, group.member(group.leaders()[0] ?? 0).commit)
})

test('a leader whose only follower is needed by the others lets it go (bug 3)', (t) => {
  const group = TestGroup.of(5, SAFE)
  group.elect(1)
  // 5 is gone; 1 reaches 2 alone, and without 2 there is no majority of the others.
  const pairs = [
    [1, 2],
    [2, 3],
    [2, 4],
    [3, 4],
  ].flatMap(([a, b]) => [`${a} ${b}`, `${b} ${a}`])
  group.lost = ({ from, to }) => from !== to && !pairs.includes(`${from} ${to}`)
  group.tick(8 * TEST_TICKS.electionTicks)
  const [leader] = group.leaders().filter((id) => id !== 1)
  t.truthy(leader)
  const { core, commit } = group.member(leader ?? 0)
  core.propose([normal('on')])
  group.settle()
  t.true(group.member(leader ?? 0).commit > commit)
})

test('who loses an election keeps its vote for the rest of the term (bug 4)', (t) => {
  const member = new TestMember(1, { voters: [1, 2, 3] })
  member.core.campaign()
  member.drain()
  for (const from of [2, 3]) member.answer({ type: 'voteResp', from, to: 1, term: 1, reject: true })
  t.like(member.core.status(), { role: 'follower', lead: 0 })
  const { term } = member
  const request = {
    type: 'vote',
    from: 3,
    to: 1,
    term,
    logTerm: 9,
    index: 9,
    transfer: false,
  } as const
  t.is(ofType(member.answer(request), 'voteResp')[0]?.reject, true)
})

test('a snapshot from before the start of the log changes nothing (bug 15)', (t) => {
  const voters = [1, 2, 3]
  const member = new TestMember(1, { voters, terms: [1, 1, 1, 1], hard: { commit: 4 } })
  member.drain()
  member.compact(3)
  const conf = { ...EMPTY_SNAPSHOT.metadata.conf, voters }
  const old: Snapshot = { metadata: { index: 2, term: 1, conf } }
  const sent = member.answer({ type: 'snap', from: 2, to: 1, term: 1, snapshot: old })
  t.is(ofType(sent, 'appResp')[0]?.index, 4)
  t.is(member.log.firstIndex(), 4)
  t.is(member.commit, 4)
})

test('behind a change that enlarges the quorum the old one commits nothing more (bug 21)', (t) => {
  const group = new TestGroup([1, 2, 3].map((id) => new TestMember(id, { voters: [1] })))
  const leader = group.elect(1)
  group.isolate(1)
  const changes = [2, 3].map((peer) => ({ type: 'addVoter' as const, peer }))
  leader.core.proposeConfChange({ transition: 'auto', changes })
  leader.drain()
  t.deepEqual(leader.core.status().conf.voters, [1, 2, 3])
  const { commit } = leader
  leader.core.propose([normal('alone')])
  leader.drain()
  t.is(leader.commit, commit)
  group.heal()
  group.tick(3)
  t.true(leader.commit > commit)
})

test('the answers of a minority prove no read (bug 23)', (t) => {
  const group = TestGroup.of(5)
  const leader = group.elect(1)
  group.lost = ({ from, to }) => from > 2 || to > 2
  leader.core.readIndex(7)
  group.tick(3)
  t.deepEqual(leader.reads, [])
  group.heal()
  group.tick()
  t.deepEqual(leader.reads, [{ index: 1, context: 7 }])
})

test('the votes of others elect nobody whose own vote is not on disk (bug 28)', (t) => {
  for (const leadsBeforeOwnVote of [false, true]) {
    const log = new MemoryLog(
      ({ data }) => data.length,
      () => EMPTY_SNAPSHOT,
    )
    const conf = { ...EMPTY_SNAPSHOT.metadata.conf, voters: [1, 2, 3] }
    log.install({ metadata: { index: 0, term: 0, conf } })
    const options = { asyncStorageWrites: true, leadsBeforeOwnVote, random: seededRandom(1) }
    const core = RaftCore.restore({ ...TEST_TICKS, ...options, id: 1 }, log)
    core.campaign()
    const [write] = ofType(core.ready().messages, 'storageAppend')
    for (const from of [2, 3]) core.step({ type: 'voteResp', from, to: 1, term: 1, reject: false })
    t.is(core.status().role, leadsBeforeOwnVote ? 'leader' : 'candidate')
    for (const done of write?.responses ?? []) core.step(done)
    t.is(core.status().role, 'leader')
  }
})
