/**
 * What the core promises beyond the paper; the numbers are those of the bug list, reference/raft.md
 * §1.2.
 */
import test from 'ava'
import { seededRandom } from '../../base/random.ts'
import { EMPTY_SNAPSHOT, MemoryLog } from '../testing/memory-log.ts'
import {
  entry,
  firstPeers,
  normal,
  TestGroup,
  TestMember,
  TEST_TICKS,
} from '../testing/test-member.ts'
import { encodeConfChange } from './conf-change-codec.ts'
import type { CoreEvent } from './core-event.ts'
import type { CoreOptions } from './core-options.ts'
import type { ConfChange, Entry, Index, PeerId, Snapshot, Term } from './entry.ts'
import type { AppendRequest, Message, MessageOf, MessageType } from './message.ts'
import { RaftCore } from './raft-core.ts'

const { electionTicks } = TEST_TICKS
const SAFE = { preVote: true, checkQuorum: true } as const
const LEASE = { ...SAFE, readOnly: 'lease' } as const

function append(fields: Partial<AppendRequest> & { readonly term: Term }): AppendRequest {
  return { type: 'app', from: 2, to: 1, logTerm: 0, index: 0, entries: [], commit: 0, ...fields }
}

function ofType<T extends MessageType>(messages: readonly Message[], type: T): MessageOf<T>[] {
  return messages.filter((message): message is MessageOf<T> => message.type === type)
}

function acceptance(from: PeerId, term: Term, index: Index): Message {
  const rest = { reject: false, rejectHint: 0, logTerm: 0, commit: 0 }
  return { type: 'appResp', from, to: 1, term, index, ...rest }
}

function vote(fields: { term: Term; transfer: boolean }): Message {
  return { type: 'vote', from: 3, to: 2, logTerm: 9, index: 9, ...fields }
}

function change(text: string, transition: ConfChange['transition'] = 'auto'): ConfChange {
  const types = { v: 'addVoter', l: 'addLearner', r: 'remove' } as const
  const changes = text
    .split(' ')
    .filter((word) => word !== '')
    .map((word) => ({ type: types[word[0] as 'v' | 'l' | 'r'], peer: Number(word.slice(1)) }))
  return { transition, changes }
}

function snapshotAt(index: Index, term: Term, voters: readonly PeerId[]): Snapshot {
  return { metadata: { index, term, conf: { ...EMPTY_SNAPSHOT.metadata.conf, voters } } }
}

function snap(snapshot: Snapshot, term: Term): Message {
  return { type: 'snap', from: 2, to: 1, term, snapshot }
}

/** A core whose `Ready`s the test handles itself. */
function bareCore(
  id: PeerId,
  options: Partial<CoreOptions> & { readonly terms?: readonly Term[] } = {},
): { core: RaftCore; log: MemoryLog } {
  const { terms = [], ...rest } = options
  const log = new MemoryLog(
    ({ data }) => data.length,
    () => EMPTY_SNAPSHOT,
  )
  log.install(snapshotAt(0, 0, [1, 2, 3]))
  log.append(terms.map((term, position) => entry(position + 1, term)))
  log.setHardState({ term: terms.at(-1) ?? 0, vote: 0, commit: 0 })
  const core = RaftCore.restore({ ...TEST_TICKS, random: seededRandom(id), ...rest, id }, log)
  return { core, log }
}

// Elections

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

// Replication

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

// Asynchronous storage writes

test('votes and acknowledgements wait for the write that they promise (bug 28)', (t) => {
  const { core } = bareCore(1, { asyncStorageWrites: true })
  core.step({ ...vote({ term: 1, transfer: false }), to: 1 })
  core.step(append({ term: 1, from: 3, entries: [entry(1, 1)] }))
  const { messages } = core.ready()
  t.deepEqual(
    messages.map(({ type }) => type),
    ['storageAppend'],
  )
  const [work] = ofType(messages, 'storageAppend')
  t.deepEqual(work?.hardState, { term: 1, vote: 3, commit: 0 })
  t.deepEqual(
    work?.responses.map(({ type }) => type),
    ['voteResp', 'appResp', 'storageAppendResp'],
  )
})

test('a completion of a write that was overtaken makes nothing durable (bug 12)', (t) => {
  const { core, log } = bareCore(1, { asyncStorageWrites: true })
  const written = (): Message[] => {
    const [work] = ofType(core.ready().messages, 'storageAppend')
    log.append(work?.entries ?? [])
    return [...(work?.responses ?? [])]
  }
  core.step(append({ term: 1, entries: [entry(1, 1, 'a')] }))
  const first = written()
  // Another leader replaces the entry, and the first one, back in a later term, puts it there
  // again.
  core.step(append({ term: 2, from: 3, entries: [entry(1, 2, 'b')] }))
  const second = written()
  core.step(append({ term: 3, entries: [entry(1, 1, 'a')] }))
  const third = written()
  const commit = append({ term: 3, index: 1, logTerm: 1, commit: 1 })
  core.step(commit)
  for (const late of [...first, ...second]) if (late.to === 1) core.step(late)
  t.deepEqual(core.ready().committed, [])
  for (const done of third) if (done.to === 1) core.step(done)
  t.deepEqual(core.ready().committed, [entry(1, 1, 'a')])
})

test('within a term, too, a completion counts only for the entry that was written', (t) => {
  const { core } = bareCore(1, { asyncStorageWrites: true })
  core.step(append({ term: 2, entries: [entry(1, 1, 'a')], commit: 1 }))
  core.ready()
  const stale: Message = {
    type: 'storageAppendResp',
    from: -1,
    to: 1,
    term: 2,
    index: 1,
    logTerm: 2,
  }
  core.step(stale)
  t.false(core.hasReady())
  t.is(core.status().lastIndex, 1)
})

test('what replaces entries that are being written is written, too', (t) => {
  const { core } = bareCore(1, { asyncStorageWrites: true })
  core.step(append({ term: 1, entries: [entry(1, 1), entry(2, 1), entry(3, 1)] }))
  core.ready()
  core.step(append({ term: 2, index: 1, logTerm: 1, entries: [entry(2, 2), entry(3, 2)] }))
  t.deepEqual(core.ready().entries, [entry(2, 2), entry(3, 2)])
})

test('entries are applied when they are durable, and more when those are applied', (t) => {
  const { core, log } = bareCore(1, { asyncStorageWrites: true, maxCommittedBytesPerReady: 1 })
  core.step(append({ term: 1, entries: [entry(1, 1, 'a'), entry(2, 1, 'b')], commit: 2 }))
  const first = core.ready()
  t.deepEqual(first.committed, [])
  const [write] = ofType(first.messages, 'storageAppend')
  log.append(write?.entries ?? [])
  for (const done of write?.responses ?? []) if (done.to === 1) core.step(done)
  const second = core.ready()
  t.deepEqual(second.committed, [entry(1, 1, 'a')])
  t.deepEqual(core.hasReady() && core.ready().committed, false)
  for (const { responses } of ofType(second.messages, 'storageApply'))
    for (const done of responses) core.step(done)
  t.deepEqual(core.ready().committed, [entry(2, 1, 'b')])
  t.is(core.status().applied, 1)
})

test('a snapshot goes through the append thread, and nothing is applied before it', (t) => {
  const { core, log } = bareCore(1, { asyncStorageWrites: true })
  core.step(snap(snapshotAt(7, 2, [1, 2]), 2))
  core.step(append({ term: 2, index: 7, logTerm: 2, entries: [entry(8, 2)], commit: 8 }))
  const ready = core.ready()
  const [work] = ofType(ready.messages, 'storageAppend')
  t.is(work?.snapshot?.metadata.index, 7)
  t.deepEqual(ready.committed, [])
  t.is(core.status().applied, 0)
  t.deepEqual(core.applyConfChange(change('v9')).voters, [1, 2])
  log.install(work?.snapshot ?? EMPTY_SNAPSHOT)
  log.append(work?.entries ?? [])
  for (const done of work?.responses ?? []) if (done.to === 1) core.step(done)
  t.is(core.status().applied, 7)
  t.deepEqual(core.ready().committed, [entry(8, 2)])
})

// Snapshots

test('a log with another term at the snapshot is dropped as a whole (bug 14)', (t) => {
  const member = new TestMember(1, { voters: [1, 2, 3], terms: [1, 1, 1, 1] })
  const [answer] = ofType(member.answer(snap(snapshotAt(3, 2, [1, 2, 3]), 2)), 'appResp')
  t.is(answer?.index, 3)
  t.deepEqual(member.terms, [])
  t.is(member.log.firstIndex(), 4)
  t.is(member.commit, 3)
})

test('a log that holds the snapshot is kept, and only the commit index moves', (t) => {
  const member = new TestMember(1, { voters: [1, 2, 3], terms: [1, 1, 1, 1] })
  const [answer] = ofType(member.answer(snap(snapshotAt(3, 1, [1, 2, 3]), 2)), 'appResp')
  t.is(answer?.index, 3)
  t.deepEqual(member.terms, [1, 1, 1, 1])
  t.is(member.commit, 3)
})

test('a snapshot that is behind, or not for this member, changes nothing', (t) => {
  const member = new TestMember(1, { voters: [1, 2, 3], terms: [1, 1], hard: { commit: 2 } })
  t.is(ofType(member.answer(snap(snapshotAt(1, 1, [1, 2]), 2)), 'appResp')[0]?.index, 2)
  t.is(ofType(member.answer(snap(snapshotAt(9, 2, [2, 3]), 2)), 'appResp')[0]?.index, 2)
  t.deepEqual(member.core.status().conf.voters, [1, 2, 3])
  t.deepEqual(member.terms, [1, 1])
})

test('a follower behind the log gets a snapshot, then the rest; a lost one is sent again', (t) => {
  const group = TestGroup.of(3)
  const leader = group.elect(1)
  group.isolate(3)
  for (let i = 0; i < 5; i += 1) leader.core.propose([normal()])
  group.settle()
  leader.log.compactTo(leader.snapshot)
  group.heal()
  group.lost = ({ type }) => type === 'snap'
  group.tick(2)
  t.is(leader.core.progress().get(3)?.mode, 'snapshot')
  t.is(leader.core.progress().get(3)?.pendingSnapshot, 6)
  group.heal()
  group.tick(5)
  t.is(group.member(3).commit, 1)
  leader.core.reportSnapshot(3, false)
  group.tick(5)
  leader.core.reportSnapshot(3, true)
  t.is(group.member(3).commit, leader.commit)
  leader.core.propose([normal('rest')])
  group.settle()
  t.is(leader.core.progress().get(3)?.mode, 'replicate')
  t.deepEqual(group.member(3).applied.at(-1)?.data, normal('rest').data)
})

// Membership

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

test('a member starts again behind what is applied', (t) => {
  const { log } = bareCore(1, { terms: [1, 1, 1] })
  log.setHardState({ term: 1, vote: 0, commit: 3 })
  const core = RaftCore.restore({ ...TEST_TICKS, random: seededRandom(1), id: 1, applied: 2 }, log)
  t.deepEqual(core.ready().committed, [entry(3, 1)])
})

// Reads

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

// Transfer and the rest

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
