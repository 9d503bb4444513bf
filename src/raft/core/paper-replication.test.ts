/** One test per rule of the Raft paper, by its section: log replication and safety, §5.3 and §5.4. */
import test from 'ava'
import { acceptance, append, ofType, voteRequest } from '../testing/core-messages.ts'
import { campaignTo, commitEverything, leaderOf } from '../testing/scripted-group.ts'
import { entry, normal, TestGroup, TestMember } from '../testing/test-member.ts'
import type { Entry, Index } from './entry.ts'

test('§5.3: a leader appends a proposal, then sends it with the place of the one before', (t) => {
  const leader = leaderOf(3)
  const last = leader.log.lastIndex()
  leader.core.propose([normal('data')])
  const ready = leader.core.ready()
  t.deepEqual(ready.entries, [entry(last + 1, 1, 'data')])
  const sent = ofType(ready.messages, 'app')
  t.deepEqual(
    sent.map(({ to }) => to),
    [2, 3],
  )
  for (const { index, logTerm, entries } of sent) {
    t.is(index, last)
    t.is(logTerm, 1)
    t.deepEqual(entries, [entry(last + 1, 1, 'data')])
  }
})

test('§5.3: a committed entry is applied, and the others are told the commit index', (t) => {
  const leader = leaderOf(3)
  const last = leader.log.lastIndex()
  leader.core.propose([normal('data')])
  leader.drain()
  const sent = ofType(leader.answer(acceptance(2, 1, last + 1)), 'app')
  t.is(leader.commit, last + 1)
  t.deepEqual(leader.applied.at(-1), entry(last + 1, 1, 'data'))
  t.deepEqual(
    sent.map(({ to, commit }) => [to, commit]),
    [
      [2, last + 1],
      [3, last + 1],
    ],
  )
})

test('§5.3: an entry is committed once a majority has it', (t) => {
  const rows = [
    { size: 1, others: [], committed: true },
    { size: 3, others: [], committed: false },
    { size: 3, others: [2], committed: true },
    { size: 3, others: [2, 3], committed: true },
    { size: 5, others: [], committed: false },
    { size: 5, others: [2], committed: false },
    { size: 5, others: [2, 3], committed: true },
    { size: 5, others: [2, 3, 4], committed: true },
    { size: 5, others: [2, 3, 4, 5], committed: true },
  ]
  for (const { size, others, committed } of rows) {
    const leader = leaderOf(size)
    leader.core.propose([normal('data')])
    leader.drain()
    const last = leader.log.lastIndex()
    for (const id of others) leader.answer(acceptance(id, 1, last))
    t.is(leader.commit >= last, committed, `${others.length + 1} of ${size}`)
  }
})

test('§5.3: committing an entry commits what earlier terms left before it', (t) => {
  for (const terms of [[], [2], [1, 2], [1]]) {
    const leader = new TestMember(1, { voters: [1, 2, 3], terms, hard: { term: 2 } })
    campaignTo(leader, 3)
    leader.core.propose([normal('data')])
    leader.drain()
    commitEverything(leader, 3)
    t.deepEqual(
      leader.applied.map(({ index, term }) => [index, term]),
      [...terms, 3, 3].map((term, position) => [position + 1, term]),
    )
  }
})

test('§5.3: a follower applies in order what the leader says is committed', (t) => {
  const rows: { entries: Entry[]; commit: Index }[] = [
    { entries: [entry(1, 1, 'some data')], commit: 1 },
    { entries: [entry(1, 1, 'some data'), entry(2, 1, 'some data2')], commit: 2 },
    { entries: [entry(1, 1, 'some data2'), entry(2, 1, 'some data')], commit: 2 },
    { entries: [entry(1, 1, 'some data'), entry(2, 1, 'some data2')], commit: 1 },
  ]
  for (const { entries, commit } of rows) {
    const follower = new TestMember(1, { voters: [1, 2, 3] })
    follower.answer(append({ term: 1, entries, commit }))
    t.is(follower.commit, commit)
    t.deepEqual(follower.applied, entries.slice(0, commit))
  }
})

test('§5.3: a follower without the entry before refuses, and says where its log may match', (t) => {
  const rows = [
    { term: 0, index: 0, accepts: 1, reject: false, hint: 0, hintTerm: 0 },
    { term: 1, index: 1, accepts: 1, reject: false, hint: 0, hintTerm: 0 },
    { term: 2, index: 2, accepts: 2, reject: false, hint: 0, hintTerm: 0 },
    { term: 1, index: 2, accepts: 2, reject: true, hint: 1, hintTerm: 1 },
    { term: 3, index: 3, accepts: 3, reject: true, hint: 2, hintTerm: 2 },
  ]
  for (const { term, index, accepts, reject, hint, hintTerm } of rows) {
    const start = { voters: [1, 2, 3], terms: [1, 2], hard: { commit: 1 } }
    const follower = new TestMember(1, start)
    const [answer] = ofType(follower.answer(append({ term: 2, logTerm: term, index })), 'appResp')
    t.like(answer, { index: accepts, reject, rejectHint: hint, logTerm: hintTerm })
  }
})

test('§5.3: a follower replaces what conflicts, and keeps what an old message lacks', (t) => {
  const rows = [
    { logTerm: 2, index: 2, entries: [entry(3, 3)], terms: [1, 2, 3] },
    { logTerm: 1, index: 1, entries: [entry(2, 3), entry(3, 4)], terms: [1, 3, 4] },
    { logTerm: 0, index: 0, entries: [entry(1, 1)], terms: [1, 2] },
    { logTerm: 0, index: 0, entries: [entry(1, 3)], terms: [3] },
  ]
  for (const { logTerm, index, entries, terms } of rows) {
    const follower = new TestMember(1, { voters: [1, 2, 3], terms: [1, 2] })
    follower.answer(append({ term: 4, logTerm, index, entries }))
    t.deepEqual(follower.terms, terms)
  }
})

test('§5.3, figure 7: a new leader brings every kind of follower to its own log', (t) => {
  const leaderTerms = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
  const followers = [
    [1, 1, 1, 4, 4, 5, 5, 6, 6],
    [1, 1, 1, 4],
    [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    [1, 1, 1, 4, 4, 4, 4],
    [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
  ]
  for (const terms of followers) {
    const voters = [1, 2, 3]
    const leader = new TestMember(1, { voters, terms: leaderTerms, hard: { term: 8 } })
    const follower = new TestMember(2, { voters, terms, hard: { term: 8 } })
    // The third member has nothing and votes for anybody.
    const third = new TestMember(3, { voters, hard: { term: 8 } })
    const group = new TestGroup([leader, follower, third])
    group.elect(1)
    leader.core.propose([normal()])
    group.settle()
    t.deepEqual(follower.terms, [...leaderTerms, 9, 9])
    t.deepEqual(third.terms, follower.terms)
  }
})

test('§5.4.1: a vote request carries the place of the last entry, to all others', (t) => {
  const rows = [
    { entries: [entry(1, 1)], term: 2 },
    { entries: [entry(1, 1), entry(2, 2)], term: 3 },
  ]
  for (const { entries, term } of rows) {
    const member = new TestMember(1, { voters: [1, 2, 3] })
    member.answer(append({ term: term - 1, entries }))
    while (member.role !== 'candidate') member.tick()
    const requests = ofType(member.drain(), 'vote')
    t.deepEqual(
      requests.map(({ to }) => to),
      [2, 3],
    )
    const last = entries.at(-1)
    for (const request of requests)
      t.like(request, { term, index: last?.index, logTerm: last?.term })
  }
})

test('§5.4.1: a voter with a newer log refuses', (t) => {
  const rows = [
    { terms: [1], last: { term: 1, index: 1 }, refused: false },
    { terms: [1], last: { term: 1, index: 2 }, refused: false },
    { terms: [1, 1], last: { term: 1, index: 1 }, refused: true },
    { terms: [1], last: { term: 2, index: 1 }, refused: false },
    { terms: [1], last: { term: 2, index: 2 }, refused: false },
    { terms: [1, 1], last: { term: 2, index: 1 }, refused: false },
    { terms: [2], last: { term: 1, index: 1 }, refused: true },
    { terms: [2], last: { term: 1, index: 2 }, refused: true },
    { terms: [2, 1], last: { term: 1, index: 1 }, refused: true },
    { terms: [1, 2], last: { term: 1, index: 1 }, refused: true },
  ]
  for (const { terms, last, refused } of rows) {
    const member = new TestMember(1, { voters: [1, 2], terms })
    const [answer] = ofType(member.answer(voteRequest(2, 3, last)), 'voteResp')
    t.is(answer?.reject, refused, JSON.stringify({ terms, last }))
  }
})

test('§5.4.2: only entries of its own term does a leader commit by counting', (t) => {
  for (const { index, commit } of [
    { index: 1, commit: 0 },
    { index: 2, commit: 0 },
    { index: 3, commit: 3 },
  ]) {
    const start = { voters: [1, 2], terms: [1, 2], hard: { term: 2 } }
    const leader = new TestMember(1, start)
    campaignTo(leader, 2)
    t.is(leader.term, 3)
    leader.core.propose([normal()])
    leader.drain()
    leader.answer(acceptance(2, 3, index))
    t.is(leader.commit, commit)
  }
})
