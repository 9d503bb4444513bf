/** Changes of the membership, joint configurations, learners. */
import test from 'ava'
import { append, change } from '../testing/core-messages.ts'
import {
  SAFE,
  bareCore,
  firstPeers,
  normal,
  TestGroup,
  TestMember,
  TEST_TICKS,
} from '../testing/test-member.ts'
import { encodeConfChange } from './conf-change-codec.ts'
import type { CoreEvent } from './core-event.ts'
import type { Entry } from './entry.ts'

const { electionTicks } = TEST_TICKS

test('nobody campaigns with a committed configuration change that is not applied (bug 20)', (t) => {
  const { core } = bareCore(1)
  const data = encodeConfChange(change('v4'))
  const entries: Entry[] = [{ index: 1, term: 1, type: 'confChangeV2', data }]
  core.step(append({ term: 1, entries, commit: 1 }))
  core.campaign()
  t.is(core.status().role, 'follower')
})

test('a voter learns from a member that left that it is the only one', (t) => {
  const voters = [1, 2]
  const options = { ...SAFE, informVoters: true, stepDownOnRemoval: true }
  const group = new TestGroup(voters.map((id) => new TestMember(id, { voters }, options)))
  const leader = group.elect(1)
  // Member 2 gets the change, but not the word that it is committed.
  group.lost = (message) => message.type === 'app' && message.entries.length === 0
  leader.core.proposeConfChange(change('l1'))
  group.settle()
  t.is(leader.role, 'follower')
  t.deepEqual(group.member(2).core.status().conf.voters, [1, 2])
  group.heal()
  group.tick(5 * electionTicks)
  t.deepEqual(group.leaders(), [2])
  t.deepEqual(group.member(2).core.status().conf.voters, [2])
})

test('one configuration change at a time, and none before a new leader has caught up (bug 18)', (t) => {
  const group = TestGroup.of(3)
  const leader = group.member(1)
  leader.core.campaign()
  leader.drain()
  for (const id of [2, 3])
    leader.core.step({ type: 'voteResp', from: id, to: 1, term: 1, reject: false })
  t.is(leader.role, 'leader')
  t.is(leader.core.proposeConfChange(change('v4')), 'ok')
  t.is(leader.core.proposeConfChange(change('v5')), 'refused')
  group.settle()
  t.deepEqual(leader.core.status().conf.voters, [1, 2, 3, 4])
  t.is(leader.core.proposeConfChange(change('r4')), 'ok')
  // A leader whose log may hold another's change waits for it.
  const start = { voters: [1, 2], terms: [1, 1], hard: { commit: 1 } }
  const second = new TestMember(1, start)
  second.core.campaign()
  second.drain()
  second.answer({ type: 'voteResp', from: 2, to: 1, term: 2, reject: false })
  t.is(second.role, 'leader')
  t.is(second.core.proposeConfChange(change('v3')), 'refused')
})

test('a change that no group could apply never enters the log', (t) => {
  const events: CoreEvent[] = []
  const onEvent = (event: CoreEvent): void => {
    events.push(event)
  }
  const group = new TestGroup([new TestMember(1, { voters: [1] }, { onEvent })])
  const { core } = group.elect(1)
  t.is(core.proposeConfChange(change('r1')), 'refused')
  t.is(core.proposeConfChange(change('')), 'refused')
  t.is(core.propose([{ type: 'confChangeV2', data: Uint8Array.of(9, 9) }]), 'refused')
  group.settle()
  t.deepEqual(core.status().conf.voters, [1])
  t.is(events.filter(({ type }) => type === 'confChangeIgnored').length, 3)
})

test('a joint configuration needs both majorities, to commit and to elect', (t) => {
  const ids = firstPeers(5)
  const start = { voters: [1, 2, 3] }
  const group = new TestGroup(ids.map((id) => new TestMember(id, start)))
  const leader = group.elect(1)
  leader.core.proposeConfChange(change('r2 r3 v4 v5', 'explicit'))
  group.settle()
  t.deepEqual(leader.core.status().conf.voters, [1, 4, 5])
  t.deepEqual(leader.core.status().conf.votersOutgoing, [1, 2, 3])
  for (const cut of [
    [2, 3],
    [4, 5],
  ]) {
    group.isolate(...cut)
    leader.core.propose([normal()])
    const { commit } = leader
    group.settle()
    t.is(leader.commit, commit)
    group.heal()
    group.tick()
    t.true(leader.commit > commit)
  }
  for (const [id, cut] of [
    [2, [4, 5]],
    [4, [2, 3]],
  ] as const) {
    group.isolate(...cut)
    t.is(group.elect(id).role, 'candidate')
    group.heal()
  }
  const candidate = group.member(2)
  group.elect(2)
  t.is(candidate.role, 'leader')
  t.is(candidate.core.proposeConfChange(change('')), 'ok')
  group.settle()
  t.deepEqual(candidate.core.status().conf.votersOutgoing, [])
})

test('several changes at once enter a joint configuration, and it is left again', (t) => {
  const group = new TestGroup([1, 2, 3].map((id) => new TestMember(id, { voters: [1, 2] })))
  const leader = group.elect(1)
  leader.core.proposeConfChange(change('v3 l2'))
  group.settle()
  for (const { core } of group.members.values()) {
    const { conf } = core.status()
    t.deepEqual([conf.voters, conf.learners, conf.votersOutgoing], [[1, 3], [2], []])
  }
})

test('a removed leader steps down if asked to; else it leads on and takes nothing', (t) => {
  for (const stepDownOnRemoval of [true, false]) {
    const group = TestGroup.of(2, { stepDownOnRemoval })
    const leader = group.elect(1)
    leader.core.proposeConfChange(change('r1'))
    group.settle()
    t.is(leader.role, stepDownOnRemoval ? 'follower' : 'leader')
    t.is(leader.core.propose([normal()]), 'dropped')
    // The only voter is another: this member alone proves nothing.
    group.isolate(1)
    leader.core.readIndex(1)
    group.settle()
    t.deepEqual(leader.reads, [])
  }
})

test('a learner gets everything, counts for nothing, and does not campaign', (t) => {
  const start = { voters: [1], learners: [2] }
  const group = new TestGroup([1, 2].map((id) => new TestMember(id, start)))
  const leader = group.elect(1)
  group.isolate(2)
  leader.core.propose([normal('x')])
  group.settle()
  t.is(leader.commit, 2)
  group.tick(5 * electionTicks)
  t.is(group.member(2).role, 'follower')
  group.heal()
  group.tick(2)
  t.is(group.member(2).commit, 2)
})
