/** What waits for a write, and snapshots that take the place of the log. */
import test from 'ava'
import { seededRandom } from '../../base/random.ts'
import { append, change, ofType, snapshotAt, vote } from '../testing/core-messages.ts'
import { EMPTY_SNAPSHOT } from '../testing/memory-log.ts'
import {
  bareCore,
  entry,
  normal,
  TestGroup,
  TestMember,
  TEST_TICKS,
} from '../testing/test-member.ts'
import type { Snapshot, Term } from './entry.ts'
import type { Message } from './message.ts'
import { RaftCore } from './raft-core.ts'

function snap(snapshot: Snapshot, term: Term): Message {
  return { type: 'snap', from: 2, to: 1, term, snapshot }
}

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

test('a member starts again behind what is applied', (t) => {
  const { log } = bareCore(1, { terms: [1, 1, 1] })
  log.setHardState({ term: 1, vote: 0, commit: 3 })
  const core = RaftCore.restore({ ...TEST_TICKS, random: seededRandom(1), id: 1, applied: 2 }, log)
  t.deepEqual(core.ready().committed, [entry(3, 1)])
})
