/** Servers that join as learners and become voters, as their callers see it. */
import test from 'ava'
import { codeOf, collect, fateOf, numbered, others } from './cluster-steps.ts'
import { MemoryCluster } from './memory-cluster.ts'
import type { Observation } from './observations.ts'

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
