/** One test per rule of the Raft paper, by its section. */
import test from 'ava'
import { seededRandom } from '../../base/random.ts'
import {
  entry,
  firstPeers,
  normal,
  TestGroup,
  TestMember,
  TEST_TICKS,
} from '../testing/test-member.ts'
import type { Entry, Index, PeerId, Term } from './entry.ts'
import type { AppendRequest, Message, MessageOf, MessageType } from './message.ts'

const { electionTicks, heartbeatTicks } = TEST_TICKS

function append(fields: Partial<AppendRequest> & { readonly term: Term }): AppendRequest {
  return { type: 'app', from: 2, to: 1, logTerm: 0, index: 0, entries: [], commit: 0, ...fields }
}

function voteRequest(
  from: PeerId,
  term: Term,
  last: { term: Term; index: Index } = { term: 0, index: 0 },
): Message {
  return { type: 'vote', from, to: 1, term, logTerm: last.term, index: last.index, transfer: false }
}

function voteResponse(from: PeerId, term: Term, reject: boolean): Message {
  return { type: 'voteResp', from, to: 1, term, reject }
}

function acceptance(from: PeerId, term: Term, index: Index): Message {
  const rest = { reject: false, rejectHint: 0, logTerm: 0, commit: 0 }
  return { type: 'appResp', from, to: 1, term, index, ...rest }
}

function ofType<T extends MessageType>(messages: readonly Message[], type: T): MessageOf<T>[] {
  return messages.filter((message): message is MessageOf<T> => message.type === type)
}

/** Member 1 of a group of `size`, leading with its first entry committed. */
function leaderOf(size: number): TestMember {
  const member = new TestMember(1, { voters: firstPeers(size) })
  campaignTo(member, size)
  commitEverything(member, size)
  return member
}

/** Lets a member win an election of a group of `size`. */
function campaignTo(member: TestMember, size: number): void {
  member.core.campaign()
  member.drain()
  for (const id of firstPeers(size).slice(1))
    if (member.role === 'candidate') member.answer(voteResponse(id, member.term, false))
}

function commitEverything(member: TestMember, size: number): void {
  for (const id of firstPeers(size).slice(1))
    member.answer(acceptance(id, member.term, member.log.lastIndex()))
}

const ROLES = ['follower', 'candidate', 'leader'] as const

function memberAs(role: (typeof ROLES)[number]): TestMember {
  const member = new TestMember(1, { voters: [1, 2, 3], hard: { term: 1 } })
  if (role === 'follower') member.answer(append({ term: 1 }))
  else member.core.campaign()
  member.drain()
  if (role === 'leader') member.answer(voteResponse(2, member.term, false))
  return member
}

for (const role of ROLES) {
  test(`§5.1: a ${role} that hears of a higher term adopts it and follows`, (t) => {
    const member = memberAs(role)
    t.is(member.role, role)
    const term = member.term + 1
    member.answer(append({ term }))
    t.is(member.term, term)
    t.is(member.role, 'follower')
  })
}

test('§5.1: a request of an earlier term is ignored', (t) => {
  const member = new TestMember(1, { voters: [1, 2, 3], hard: { term: 2 } })
  const sent = member.answer(append({ term: 1, entries: [entry(1, 1)] }))
  t.deepEqual(sent, [])
  t.deepEqual(member.terms, [])
  t.is(member.term, 2)
})

test('§5.2: a member starts as follower', (t) => {
  t.is(new TestMember(1, { voters: [1, 2, 3] }).role, 'follower')
})

test('§5.2: a leader sends empty heartbeats to all others every interval', (t) => {
  const leader = leaderOf(3)
  leader.tick(heartbeatTicks)
  const beats = leader.drain()
  t.deepEqual(
    beats.map(({ type, to }) => [type, to]),
    [
      ['heartbeat', 2],
      ['heartbeat', 3],
    ],
  )
  t.false('entries' in (beats[0] ?? {}))
})

for (const role of ['follower', 'candidate'] as const) {
  test(`§5.2: a ${role} that hears no leader for an election timeout campaigns`, (t) => {
    const member = memberAs(role)
    const term = member.term + 1
    for (let i = 0; i < 2 * electionTicks && member.term < term; i += 1) member.tick()
    t.is(member.term, term)
    t.is(member.role, 'candidate')
    const requests = ofType(member.drain(), 'vote')
    t.deepEqual(
      requests.map(({ to, term: asked }) => [to, asked]),
      [
        [2, term],
        [3, term],
      ],
    )
    t.is(member.log.initialState().hard.vote, 1)
  })
}

const ELECTIONS = [
  { size: 1, votes: {}, role: 'leader' },
  { size: 3, votes: { 2: true, 3: true }, role: 'leader' },
  { size: 3, votes: { 2: true }, role: 'leader' },
  { size: 5, votes: { 2: true, 3: true, 4: true, 5: true }, role: 'leader' },
  { size: 5, votes: { 2: true, 3: true, 4: true }, role: 'leader' },
  { size: 5, votes: { 2: true, 3: true }, role: 'leader' },
  { size: 3, votes: { 2: false, 3: false }, role: 'follower' },
  { size: 5, votes: { 2: false, 3: false, 4: false, 5: false }, role: 'follower' },
  { size: 5, votes: { 2: true, 3: false, 4: false, 5: false }, role: 'follower' },
  { size: 3, votes: {}, role: 'candidate' },
  { size: 5, votes: { 2: true }, role: 'candidate' },
  { size: 5, votes: { 2: false, 3: false }, role: 'candidate' },
  { size: 5, votes: {}, role: 'candidate' },
]

test('§5.2: an election is won by a majority, lost by a majority, or undecided', (t) => {
  for (const { size, votes, role } of ELECTIONS) {
    const member = new TestMember(1, { voters: firstPeers(size) })
    member.core.campaign()
    member.drain()
    for (const [id, granted] of Object.entries(votes))
      member.answer(voteResponse(Number(id), member.term, !granted))
    t.is(member.role, role, `${size}: ${JSON.stringify(votes)}`)
    t.is(member.term, 1)
  }
})

test('§5.2: a member votes once a term, for who asks first, and again for the same', (t) => {
  const rows = [
    { vote: 0, candidate: 2, refused: false },
    { vote: 0, candidate: 3, refused: false },
    { vote: 2, candidate: 2, refused: false },
    { vote: 3, candidate: 3, refused: false },
    { vote: 2, candidate: 3, refused: true },
    { vote: 3, candidate: 2, refused: true },
  ]
  for (const { vote, candidate, refused } of rows) {
    const member = new TestMember(1, { voters: [1, 2, 3], hard: { term: 1, vote } })
    const [answer] = ofType(member.answer(voteRequest(candidate, 1)), 'voteResp')
    t.like(answer, { to: candidate, term: 1, reject: refused })
  }
})

test('§5.2: a candidate that hears a leader of its term or a later one follows it', (t) => {
  for (const later of [0, 1]) {
    const member = memberAs('candidate')
    const term = member.term + later
    member.answer(append({ term }))
    t.is(member.role, 'follower')
    t.is(member.term, term)
    t.is(member.core.status().lead, 2)
  }
})

/** Ticks until a member of a group of three campaigns again. */
function timeouts(role: 'follower' | 'candidate', rounds: number): Set<number> {
  const member = new TestMember(1, { voters: [1, 2, 3] }, { random: seededRandom(7) })
  const seen = new Set<number>()
  for (let round = 0; round < rounds; round += 1) {
    if (role === 'follower') member.answer(append({ term: member.term + 1 }))
    else if (member.role !== 'candidate') member.core.campaign()
    const { term } = member
    let ticks = 0
    while (member.term === term) {
      member.tick()
      ticks += 1
    }
    member.drain()
    seen.add(ticks)
  }
  return seen
}

for (const role of ['follower', 'candidate'] as const) {
  test(`§5.2: the election timeout of a ${role} is any of [T, 2T)`, (t) => {
    const seen = [...timeouts(role, 50 * electionTicks)].toSorted((a, b) => a - b)
    t.deepEqual(
      seen,
      Array.from({ length: electionTicks }, (_, i) => electionTicks + i),
    )
  })

  test(`§5.2: ${role}s of five seldom campaign in the same tick`, (t) => {
    const random = seededRandom(11)
    const voters = firstPeers(5)
    const rounds = 300
    let conflicts = 0
    for (let round = 0; round < rounds; round += 1) {
      const members = voters.map((id) => new TestMember(id, { voters }, { random }))
      if (role === 'candidate') for (const { core } of members) core.campaign()
      const before = members.map(({ term }) => term)
      let started = 0
      while (started === 0) {
        for (const member of members) member.tick()
        started = members.filter(({ term }, position) => term > (before[position] ?? 0)).length
      }
      if (started > 1) conflicts += 1
    }
    t.true(conflicts / rounds <= 0.3, `${conflicts} of ${rounds}`)
  })
}

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
