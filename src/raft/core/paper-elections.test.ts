/** One test per rule of the Raft paper, by its section: terms and elections, §5.1 and §5.2. */
import test from 'ava'
import { seededRandom } from '../../base/random.ts'
import { append, ofType, voteRequest, voteResponse } from '../testing/core-messages.ts'
import { leaderOf } from '../testing/scripted-group.ts'
import { entry, firstPeers, TestMember, TEST_TICKS } from '../testing/test-member.ts'

const { electionTicks, heartbeatTicks } = TEST_TICKS

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
