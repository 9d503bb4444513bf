import test from 'ava'
import { at } from '../../base/assert.ts'
import { SwarmError } from '../../base/errors.ts'
import { MemoryLogStore } from '../storage/memory-log-store.ts'
import { bytes, codeOf, fateOf, follower, numbered, others } from './cluster-steps.ts'
import { MemoryCluster } from './memory-cluster.ts'
import type { Observation } from './observations.ts'

async function* source(...chunks: readonly string[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield bytes(chunk)
}

/** Reads a stream of observations into a list. */
async function collect(
  stream: AsyncIterable<Observation>,
  into: Observation[],
): Promise<readonly Observation[]> {
  for await (const one of stream) into.push(one)
  return into
}

test('a batch of commands enters the log in order, together', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const results = await cluster.settled(leader.applyBatch(numbered(0, 100).map(bytes)))
  t.deepEqual(
    results.map(({ response }) => response),
    Array.from({ length: 100 }, (_, position) => position + 1),
  )
  t.is(at(results, 99).index - at(results, 0).index, 99)
  t.deepEqual(cluster.commands(leader.id), numbered(0, 100))
  t.deepEqual(await cluster.settled(leader.applyBatch([])), [])
  t.is(await codeOf(leader.applyBatch([bytes('a'), new Uint8Array()])), 'INVALID_ARGUMENT')
  t.is(await codeOf(follower(cluster, leader).applyBatch([bytes('a')])), 'NOT_LEADER')
})

test('a staged server becomes a voter when it has caught up, and the stream tells how', async (t) => {
  await using cluster = await MemoryCluster.start(3, {
    raft: { snapshotThreshold: 50, trailingEntries: 10 },
  })
  const leader = await cluster.leader()
  await cluster.apply(leader, numbered(0, 200))
  await cluster.up('n4')
  const stop = new AbortController()
  const seen: Observation[] = []
  const reading = collect(leader.observe(['staging'], { signal: stop.signal }), seen)
  await cluster.settled(leader.addVoter('n4', 'at-n4', { staging: true }))
  const server = leader.configuration.servers.find(({ id }) => id === 'n4')
  t.is(server?.suffrage, 'voter')
  t.true(cluster.raft('n4').lastIndex >= 200)
  stop.abort()
  await reading
  const phases = seen.map((one) => (one.type === 'staging' ? one.phase : ''))
  t.is(phases[0], 'started')
  t.true(phases.includes('caughtUpRound'))
  t.is(phases.at(-1), 'promoted')
})

test('staging under load takes further rounds until one is short', async (t) => {
  await using cluster = await MemoryCluster.start(3, {
    raft: { snapshotThreshold: 50, trailingEntries: 10 },
  })
  const leader = await cluster.leader()
  await cluster.apply(leader, numbered(0, 300))
  await cluster.up('n4')
  cluster.network.snapshotChunkMs = 20
  const stream = leader.observe(({ type }) => type === 'staging')
  const staged = leader.addVoter('n4', 'at-n4', { staging: true })
  const ended: string[] = []
  void codeOf(staged).then((code) => ended.push(code))
  for (let next = 300; ended.length === 0; next += 1) {
    await cluster.apply(leader, numbered(next, 1))
    await cluster.clock.advance(10)
  }
  t.true((await staged) > 0)
  await cluster.down(leader.id)
  const seen = await collect(stream, [])
  const last = seen.at(-1)
  t.true(last?.type === 'staging' && last.phase === 'promoted' && last.rounds >= 2)
})

test('a server that never answers stays a learner, and staging says so', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const stream = leader.observe(['staging'])
  const first = leader.addVoter('n9', 'nowhere', { staging: true })
  const second = codeOf(leader.addVoter('n9', 'nowhere', { staging: true }))
  t.is(await second, 'FAILED_PRECONDITION')
  t.is(await fateOf(cluster, first), 'TIMED_OUT')
  const server = leader.configuration.servers.find(({ id }) => id === 'n9')
  t.is(server?.suffrage, 'learner')
  await cluster.settled(leader.removeServer('n9'))
  await cluster.down(leader.id)
  const last = (await collect(stream, [])).at(-1)
  t.true(last?.type === 'staging' && last.phase === 'abandoned' && last.error?.code === 'TIMED_OUT')
})

test('staging ends with its leadership, its signal, and its member', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const lost = codeOf(leader.addVoter('n9', 'nowhere', { staging: true }))
  await cluster.clock.advance(300)
  await cluster.settled(leader.transferLeadership())
  t.is(await cluster.settled(lost), 'NOT_LEADER')
  const next = await cluster.leader()
  const stop = new AbortController()
  const withdrawn = codeOf(next.addVoter('n9', 'nowhere', { staging: true, signal: stop.signal }))
  await cluster.clock.advance(300)
  stop.abort()
  t.is(await withdrawn, 'ABORTED')
  const ended = codeOf(next.addVoter('n9', 'nowhere', { staging: true }))
  await cluster.clock.advance(300)
  await cluster.down(next.id)
  t.is(await ended, 'SHUTTING_DOWN')
})

test('who would cost the quorum is added as a voter only by force', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  t.is(await codeOf(leader.addVoter('n4', 'at-n4')), 'FAILED_PRECONDITION')
  await cluster.settled(leader.addLearner('n4', 'at-n4'))
  await cluster.clock.advance(2000)
  t.is(await codeOf(leader.addVoter('n4', 'at-n4')), 'FAILED_PRECONDITION', 'it never answered')
  await cluster.up('n4')
  await cluster.converged()
  await cluster.clock.advance(300)
  await cluster.settled(leader.addVoter('n4', 'at-n4'))
  t.is(leader.configuration.servers.at(-1)?.suffrage, 'voter')
  await cluster.settled(leader.addVoter('n5', 'at-n5', { force: true }))
  t.is(leader.configuration.servers.length, 5)
  await cluster.settled(leader.addVoter('n5', 'elsewhere'))
  t.is(leader.configuration.servers.at(-1)?.address, 'elsewhere', 'a voter is only renamed')
})

test('a leader steps down for the best voter, or for nobody when none takes it', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.settled(leader.stepDown())
  t.is(leader.role, 'follower')
  const next = await cluster.leader()
  t.not(next.id, leader.id)
  cluster.network.drop((_from, _to, { type }) => type === 'timeoutNow')
  const { term } = next
  await cluster.settled(next.stepDown())
  t.is(next.role, 'follower')
  t.is(next.term, term)
  cluster.network.heal()
  await cluster.apply(await cluster.leader(), ['a'])
  await using lonely = await MemoryCluster.start(1)
  t.is(await codeOf((await lonely.leader()).stepDown()), 'FAILED_PRECONDITION')
})

test('a campaign deposes no leader that lives, and wins where there is none', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const { term } = leader
  const member = follower(cluster, leader)
  t.is(await fateOf(cluster, member.campaign()), 'TIMED_OUT')
  t.is(leader.role, 'leader')
  t.is(leader.term, term)
  await cluster.settled(leader.campaign())
  await cluster.down(leader.id)
  await cluster.clock.advance(1000)
  await cluster.settled(member.campaign())
  t.is(member.role, 'leader')
  await cluster.settled(member.addLearner('n4', 'at-n4'))
  const learner = await cluster.up('n4')
  await cluster.converged()
  t.is(await codeOf(learner.campaign()), 'FAILED_PRECONDITION')
})

test('writes during a hand-over are refused as without effect, and so is another hand-over', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const [one, two] = others(cluster, leader.id)
  cluster.network.drop((_from, _to, { type }) => type === 'timeoutNow')
  const transfer = codeOf(leader.transferLeadership(one))
  t.is(await codeOf(leader.transferLeadership(two)), 'FAILED_PRECONDITION')
  t.is(await fateOf(cluster, leader.apply(bytes('x'))), 'UNAVAILABLE')
  t.is(await fateOf(cluster, leader.addLearner('n4', 'at-n4')), 'UNAVAILABLE')
  t.is(await cluster.settled(transfer), 'TIMED_OUT')
  await cluster.apply(leader, ['a'])
})

test('a hand-over that a lost quorum interrupts is forgotten with its term', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const rest = others(cluster, leader.id)
  cluster.network.drop((_from, _to, { type }) => type === 'timeoutNow')
  const transfer = codeOf(leader.transferLeadership(rest[0]))
  cluster.network.cut([leader.id], rest)
  t.is(await cluster.settled(transfer), 'TIMED_OUT')
  await cluster.until(() => leader.role !== 'leader', 'stepping down')
  cluster.network.heal()
  let next = await cluster.leader()
  for (let turn = 0; next.id !== leader.id && turn < 10; turn += 1) {
    await cluster.settled(next.transferLeadership(leader.id))
    next = await cluster.leader()
  }
  t.is(next.id, leader.id)
  await cluster.apply(leader, ['a'])
})

test('a restored state replaces everything on every member, and writes go on behind it', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.apply(leader, numbered(0, 20))
  const before = leader.lastIndex
  const index = await cluster.settled(leader.restore(source('x\ny', '\nz\n'), { sizeBytes: 6 }))
  t.true(index > before)
  await cluster.apply(leader, ['after'])
  await cluster.converged()
  for (const id of cluster.places.keys()) {
    t.deepEqual(cluster.commands(id), ['x', 'y', 'z', 'after'])
    t.is(cluster.raft(id).configuration.servers.length, 3)
  }
  for (const id of cluster.places.keys()) await cluster.down(id)
  for (const id of cluster.places.keys()) await cluster.up(id)
  await cluster.leader()
  await cluster.converged()
  for (const id of cluster.places.keys()) {
    t.deepEqual(cluster.commands(id), ['x', 'y', 'z', 'after'])
  }
})

test('a restore aborts what waits, refuses writes meanwhile, and runs once', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const gate = Promise.withResolvers<void>()
  async function* slow(): AsyncGenerator<Uint8Array> {
    yield bytes('x\n')
    await gate.promise
    yield bytes('y\n')
  }
  const waiting = codeOf(leader.apply(bytes('waits')))
  const restore = leader.restore(slow())
  t.is(await cluster.settled(waiting), 'ABORTED')
  t.is(await codeOf(leader.apply(bytes('z'))), 'UNAVAILABLE')
  t.is(await codeOf(leader.restore(source('q'))), 'FAILED_PRECONDITION')
  await cluster.clock.advance(100)
  t.is(await codeOf(leader.addLearner('n9', 'at-n9')), 'UNAVAILABLE')
  const { metadata } = await cluster.settled(leader.snapshot())
  gate.resolve()
  const index = await cluster.settled(restore)
  // Begin, two pieces, end: the snapshot stands before them, since it would not hold the pieces.
  t.true(metadata.index <= index - 4)
  t.deepEqual(cluster.commands(leader.id), ['x', 'y'])
  t.is(await codeOf(follower(cluster, leader).restore(source('q'))), 'NOT_LEADER')
})

test('a restore that breaks off, or is not whole, changes nothing', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.apply(leader, ['kept'])
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield bytes('x\n')
    throw new Error('tape torn')
  }
  t.is(await fateOf(cluster, leader.restore(broken())), 'Error: tape torn')
  t.is(await fateOf(cluster, leader.restore(source('x\n'), { sizeBytes: 3 })), 'INVALID_ARGUMENT')
  await cluster.apply(leader, ['more'])
  await cluster.converged()
  for (const id of cluster.places.keys()) t.deepEqual(cluster.commands(id), ['kept', 'more'])
  await cluster.settled(leader.snapshot())
})

test('a restore whose leader is lost is abandoned by all, and snapshots are taken again', async (t) => {
  await using cluster = await MemoryCluster.start(3, {
    raft: { snapshotThreshold: 20, trailingEntries: 5 },
  })
  const leader = await cluster.leader()
  await cluster.apply(leader, ['kept'])
  async function* endless(): AsyncGenerator<Uint8Array> {
    yield bytes('x\n')
    await new Promise(() => {})
  }
  void codeOf(leader.restore(endless()))
  await cluster.clock.advance(200)
  cluster.network.cut([leader.id], others(cluster, leader.id))
  const next = await cluster.leader(others(cluster, leader.id))
  await cluster.apply(next, numbered(0, 50))
  cluster.network.heal()
  await cluster.leader()
  await cluster.converged()
  for (const id of cluster.places.keys()) {
    t.deepEqual(cluster.commands(id), ['kept', ...numbered(0, 50)])
  }
  t.true(next.stats().snapshotIndex > 20)
})

test('a member that was away gets a restored state like any other', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const away = at(others(cluster, leader.id), 0)
  await cluster.down(away)
  await cluster.settled(leader.restore(source('x\n')))
  await cluster.apply(leader, ['after'])
  await cluster.up(away)
  await cluster.converged()
  t.deepEqual(cluster.commands(away), ['x', 'after'])
})

test('limits of snapshots and timeouts change while a member runs', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.apply(leader, numbered(0, 100))
  t.is(leader.stats().snapshotIndex, 0)
  leader.reloadConfig({ snapshotThreshold: 50, trailingEntries: 7 })
  t.like(leader.reloadableConfig, { snapshotThreshold: 50, trailingEntries: 7, electionTicks: 10 })
  await cluster.apply(leader, ['one more'])
  await cluster.until(() => leader.stats().snapshotIndex > 100, 'a snapshot')
  await cluster.until(() => leader.stats().firstIndex > 90, 'compaction')
  for (const raft of cluster.running) raft.reloadConfig({ electionTicks: 30, heartbeatTicks: 3 })
  const downMs = cluster.clock.monotonicMs()
  await cluster.down(leader.id)
  await cluster.leader()
  t.true(cluster.clock.monotonicMs() - downMs >= 2600, 'elections wait longer now')
})

test('a reload that makes no sense changes nothing', async (t) => {
  await using cluster = await MemoryCluster.start(1, { raft: { leaseReads: true } })
  const leader = await cluster.leader()
  const before = leader.reloadableConfig
  const attempts: readonly object[] = [
    { heartbeatTicks: 10 },
    { snapshotThreshold: 0 },
    { trailingEntries: -1 },
    { tickMs: 5 },
  ]
  for (const changes of attempts) {
    t.throws(() => leader.reloadConfig(changes), { code: 'INVALID_ARGUMENT' })
  }
  t.throws(() => leader.reloadConfig({ electionTicks: 20 }), { code: 'FAILED_PRECONDITION' })
  t.deepEqual(leader.reloadableConfig, before)
})

test('observations tell of leaders, roles, members, silence and snapshots', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const [quiet = '', other = ''] = others(cluster, leader.id)
  const stream = leader.observe()
  await cluster.clock.advance(1000)
  cluster.network.cut([leader.id], [quiet])
  await cluster.clock.advance(3000)
  cluster.network.heal()
  await cluster.clock.advance(500)
  await cluster.apply(leader, ['a'])
  await cluster.settled(leader.snapshot())
  await cluster.settled(leader.addLearner('n4', 'at-n4'))
  await cluster.settled(leader.transferLeadership(other))
  await cluster.down(leader.id)
  const seen = await collect(stream, [])
  const types = seen.map(({ type }) => type)
  t.deepEqual(types.slice(0, 2), ['failedHeartbeat', 'resumedHeartbeat'])
  t.like(seen[0], { peer: quiet })
  for (const type of ['snapshotTaken', 'configuration', 'role', 'leader'] as const) {
    t.true(types.includes(type), type)
  }
  const n4 = { id: 'n4', address: 'at-n4', suffrage: 'learner' } as const
  t.deepEqual(
    seen.find(({ type }) => type === 'peerAdded'),
    { type: 'peerAdded', peer: n4 },
  )
  t.deepEqual(
    seen.findLast(({ type }) => type === 'leader'),
    {
      type: 'leader',
      leader: other,
      term: cluster.raft(other).term,
    },
  )
  t.is(stream.dropped, 0)
})

test('a listener that does not read loses the oldest, counted, and holds nobody up', async (t) => {
  await using cluster = await MemoryCluster.start(1)
  const leader = await cluster.leader()
  const stream = leader.observe(['configuration'], { limit: 3 })
  for (let turn = 0; turn < 10; turn += 1) {
    await cluster.settled(leader.addLearner(`l${turn}`, 'nowhere'))
  }
  t.is(stream.dropped, 7)
  await cluster.down('n1')
  const seen = await collect(stream, [])
  const sizes = seen.map((one) =>
    one.type === 'configuration' ? one.configuration.servers.length : 0,
  )
  t.deepEqual(sizes, [9, 10, 11])
})

test('a stream ends with its signal, with its loop, and with the member', async (t) => {
  const cluster = await MemoryCluster.start(1)
  const leader = await cluster.leader()
  const stop = new AbortController()
  const aborted = collect(leader.observe(undefined, { signal: stop.signal }), [])
  stop.abort()
  t.deepEqual(await aborted, [])
  const left = leader.observe(['configuration'])
  await cluster.settled(leader.addLearner('n2', 'nowhere'))
  for await (const { type } of left) {
    t.is(type, 'configuration')
    break
  }
  await cluster.settled(leader.addLearner('n3', 'nowhere'))
  t.deepEqual(await collect(left, []), [], 'it collects no more')
  const ended = collect(leader.observe(), [])
  const leadership = (async () => {
    let count = 0
    for await (const _ of leader.leadership()) count += 1
    return count
  })()
  await cluster[Symbol.asyncDispose]()
  await ended
  t.true((await leadership) >= 1)
  t.deepEqual(await collect(leader.observe(), []), [])
})

test('a failure is the last that a member tells', async (t) => {
  await using cluster = await MemoryCluster.start(1)
  const leader = await cluster.leader()
  const stream = leader.observe(['fatal'])
  const { logStore } = cluster.place('n1')
  if (logStore instanceof MemoryLogStore) logStore.failWith(new SwarmError('STORAGE_FULL', 'full'))
  void codeOf(leader.apply(bytes('x')))
  await cluster.clock.advance(100)
  const [last] = await collect(stream, [])
  t.true(last?.type === 'fatal' && last.error.code === 'STORAGE_FULL')
})

test('figures go to the sink under names with units', async (t) => {
  const counted = new Map<string, number>()
  const gauges = new Map<string, number>()
  const timings: number[] = []
  await using cluster = await MemoryCluster.start(1, {
    metrics: {
      count: (name, value) => counted.set(name, (counted.get(name) ?? 0) + value),
      gauge: (name, value) => gauges.set(name, value),
      timing: (_name, seconds) => void timings.push(seconds),
    },
  })
  const leader = await cluster.leader()
  await cluster.apply(leader, ['abc', 'de'])
  await cluster.settled(leader.snapshot())
  await cluster.clock.advance(2000)
  t.is(counted.get('raft_log_write_bytes_total'), 5)
  t.true((counted.get('raft_log_writes_total') ?? 0) >= 2)
  t.is(counted.get('raft_leadership_won_total'), 1)
  t.is(counted.get('raft_snapshots_taken_total'), 1)
  t.is(gauges.get('raft_is_leader'), 1)
  t.is(gauges.get('raft_applied_index'), leader.appliedIndex)
  t.is(timings.length, counted.get('raft_log_writes_total') ?? 0)
})

test('after its stop a member answers every call with SHUTTING_DOWN', async (t) => {
  const cluster = await MemoryCluster.start(1)
  const leader = await cluster.leader()
  await cluster.down('n1')
  const calls = [
    leader.apply(bytes('x')),
    leader.applyBatch([bytes('x')]),
    leader.barrier(),
    leader.verifyLeader(),
    leader.readIndex(),
    leader.read(() => 1),
    leader.read(() => 1, { consistency: 'stale' }),
    leader.addVoter('n2', 'x'),
    leader.removeServer('n2'),
    leader.transferLeadership(),
    leader.stepDown(),
    leader.campaign(),
    leader.snapshot(),
    leader.restore(source('x')),
    leader.waitApplied(1000),
  ]
  for (const call of calls) t.is(await codeOf(call), 'SHUTTING_DOWN')
  await leader.shutdown()
})

test('learners can get fewer heartbeats than voters, and still hear their leader', async (t) => {
  await using cluster = await MemoryCluster.start(3, { raft: { learnerHeartbeatTicks: 4 } })
  const leader = await cluster.leader()
  await cluster.settled(leader.addLearner('n4', 'at-n4'))
  const learner = await cluster.up('n4')
  await cluster.converged()
  const beats = new Map<string, number>()
  cluster.network.drop((_from, to, { type }) => {
    if (type === 'heartbeat') beats.set(to, (beats.get(to) ?? 0) + 1)
    return false
  })
  for (let turn = 0; turn < 100; turn += 1) {
    await cluster.clock.advance(100)
    t.is(learner.leader, leader.id)
  }
  t.true((beats.get('n4') ?? 0) <= 26)
  t.true((beats.get(at(others(cluster, leader.id), 0)) ?? 0) >= 99)
  await cluster.apply(leader, ['a'])
  await cluster.converged()
  t.deepEqual(cluster.commands('n4'), ['a'])
  t.true(
    (leader.progressOf('n4')?.recentActive ?? false) || leader.lastContactMs('n4') !== undefined,
  )
})

test('heartbeats to learners rarer than elections are refused', async (t) => {
  const cluster = new MemoryCluster({ raft: { learnerHeartbeatTicks: 10 } })
  t.is(await codeOf(cluster.up('n1')), 'INVALID_ARGUMENT')
})

test('a change for a configuration that is past is refused, staged ones too', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const [first = '', second = ''] = others(cluster, leader.id)
  const prevIndex = leader.configuration.index
  await cluster.settled(leader.demoteVoter(first, { prevIndex }))
  const later = [
    leader.removeServer(second, { prevIndex }),
    leader.addLearner('n4', 'at-n4', { prevIndex }),
    leader.addVoter(first, `at-${first}`, { prevIndex, force: true }),
    leader.addVoter(first, `at-${first}`, { prevIndex, staging: true }),
  ]
  for (const change of later) t.is(await codeOf(change), 'FAILED_PRECONDITION')
  const { index } = leader.configuration
  t.is(await cluster.settled(leader.removeServer(first, { prevIndex: index })), index + 1)
})

test('observers are told who comes and who goes', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const [gone = ''] = others(cluster, leader.id)
  const stream = leader.observe(['peerAdded', 'peerRemoved'])
  await cluster.settled(leader.addLearner('n4', 'at-n4'))
  await cluster.settled(leader.demoteVoter(gone))
  await cluster.settled(leader.removeServer(gone))
  await leader.shutdown()
  const seen = await collect(stream, [])
  const told = seen.map((one) => ('peer' in one && typeof one.peer === 'object' ? one.peer.id : ''))
  t.deepEqual(told, ['n4', gone])
  t.deepEqual(
    seen.map(({ type }) => type),
    ['peerAdded', 'peerRemoved'],
  )
  cluster.place(leader.id).raft = undefined
})

test('a state machine knows the members at its place, by log, snapshot and restart', async (t) => {
  await using cluster = await MemoryCluster.start(3, { raft: { trailingEntries: 0 } })
  const leader = await cluster.leader()
  const told = (id: string): readonly string[] => cluster.place(id).machine.members
  t.deepEqual(told(leader.id), ['n1', 'n2', 'n3'])
  await cluster.settled(leader.addLearner('n4', 'at-n4'))
  await cluster.apply(leader, ['a'])
  t.deepEqual(told(leader.id), ['n1', 'n2', 'n3', 'n4'])
  await cluster.settled(leader.snapshot())
  await cluster.settled(cluster.up('n4'))
  await cluster.converged()
  t.deepEqual(told('n4'), ['n1', 'n2', 'n3', 'n4'], 'a snapshot brought it')
  await cluster.settled(cluster.raft('n4').snapshot())
  await cluster.down('n4')
  await cluster.settled(cluster.up('n4'))
  t.deepEqual(told('n4'), ['n1', 'n2', 'n3', 'n4'], 'its own snapshot did')
})

test('who waits for a snapshot may give up; the snapshot goes on', async (t) => {
  await using cluster = await MemoryCluster.start(1)
  const leader = await cluster.leader()
  await cluster.apply(leader, ['a'])
  t.is(await codeOf(leader.snapshot({ signal: AbortSignal.abort() })), 'ABORTED')
  const stored = await cluster.settled(leader.snapshot({ timeoutMs: 1000 }))
  t.is(stored.metadata.index, leader.appliedIndex)
})
