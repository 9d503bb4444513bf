/**
 * What hashicorp/raft's own suite (`raft_test.go`, `integ_test.go`, `fuzzy/`) demands of a library,
 * as tests of our own writing on a simulated clock. The list is reference/raft.md §3.5. Left out:
 * protocol versions 0–3 and peers.json (nothing like them here), the config store (the state
 * machine has no part in membership), LogCache and MonotonicLogStore (one store, one cache, always
 * on), and enqueue timeouts (nothing is enqueued: too much is RESOURCE_EXHAUSTED at once).
 */
import test from 'ava'
import { at } from '../../base/assert.ts'
import { SwarmError } from '../../base/errors.ts'
import type { Message } from '../core/message.ts'
import { MemoryLogStore } from '../storage/memory-log-store.ts'
import {
  SMALL_SNAPSHOTS as small,
  agree,
  bytes,
  codeOf,
  fateOf,
  follower,
  numbered,
  others,
  writeAll,
} from './cluster-steps.ts'
import { MemoryCluster } from './memory-cluster.ts'
import { memberNumber } from './member-numbers.ts'
import { Raft } from './raft.ts'

// --- Start, stop, bootstrap -----------------------------------------------------------------------

test('start and stop: a member that never heard of anybody ends cleanly', async (t) => {
  const cluster = new MemoryCluster()
  const raft = await cluster.up('n1')
  t.is(raft.role, 'follower')
  t.is(raft.leader, undefined)
  await raft.shutdown()
  await raft.shutdown()
  t.is(cluster.clock.pendingTimers, 0)
})

test('configuration before bootstrap: it is empty, and nobody campaigns', async (t) => {
  await using cluster = new MemoryCluster()
  const raft = await cluster.up('n1')
  await cluster.clock.advance(10_000)
  t.deepEqual(raft.configuration, { servers: [], index: 0, joint: false })
  t.is(raft.term, 0)
  t.is(await codeOf(raft.apply(bytes('x'))), 'NOT_LEADER')
})

test('bootstrap while a member runs on the stores is refused', async (t) => {
  await using cluster = await MemoryCluster.start(1)
  const servers = [{ id: 'n1', address: 'x', suffrage: 'voter' }] as const
  t.is(await codeOf(Raft.bootstrap(cluster.place('n1'), servers)), 'FAILED_PRECONDITION')
  await cluster.apply(await cluster.leader(), ['a'])
})

test('bootstrap as a learner alone is refused', async (t) => {
  const cluster = new MemoryCluster()
  const servers = [{ id: 'n1', address: 'x', suffrage: 'learner' }] as const
  t.is(await codeOf(Raft.bootstrap(cluster.place('n1'), servers)), 'INVALID_ARGUMENT')
})

test('a learner of the first configuration takes part and never leads', async (t) => {
  await using cluster = new MemoryCluster()
  const servers = ['n1', 'n2'].map(
    (id, index) => ({ id, address: id, suffrage: index === 0 ? 'voter' : 'learner' }) as const,
  )
  for (const { id } of servers) await Raft.bootstrap(cluster.place(id), servers)
  for (const { id } of servers) await cluster.up(id)
  const leader = await cluster.leader()
  t.is(leader.id, 'n1')
  await cluster.apply(leader, ['a'])
  await cluster.converged()
  t.deepEqual(cluster.commands('n2'), ['a'])
  await cluster.down('n1')
  await cluster.clock.advance(10_000)
  t.is(cluster.raft('n2').role, 'follower')
})

test('a cluster recovers from the loss of its quorum with and without a snapshot', async (t) => {
  for (const options of [{}, { raft: small }]) {
    await using cluster = await MemoryCluster.start(3, options)
    const leader = await cluster.leader()
    for (let turn = 0; turn < 5; turn += 1) await cluster.apply(leader, numbered(turn * 20, 20))
    await cluster.converged()
    for (const id of cluster.places.keys()) await cluster.down(id)
    const servers = ['n1', 'n2'].map((id) => ({ id, address: 'new', suffrage: 'voter' }) as const)
    await Raft.recover(cluster.place('n1'), servers)
    await cluster.up('n1')
    await cluster.up('n2')
    const next = await cluster.leader()
    await cluster.apply(next, ['more'])
    await cluster.converged()
    t.deepEqual(cluster.commands('n2'), [...numbered(0, 100), 'more'])
    t.deepEqual(next.configuration.servers, servers)
  }
})

// --- Replication ----------------------------------------------------------------------------------

test('a hundred commands at once are applied once each, in one order', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  await cluster.apply(await cluster.leader(), numbered(0, 100))
  t.true(await agree(cluster, numbered(0, 100)))
})

test('a deadline that has passed ends a call, whatever becomes of its entry', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  cluster.network.latencyMs = 500
  t.is(await fateOf(cluster, leader.apply(bytes('x'), { timeoutMs: 1 })), 'TIMED_OUT')
})

test('a follower that was cut off catches up with thousands of entries', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const behind = at(others(cluster, leader.id), 0)
  cluster.network.cut([behind], others(cluster, behind))
  await cluster.apply(leader, numbered(0, 3000))
  t.deepEqual(cluster.commands(behind), [])
  cluster.network.heal()
  t.true(await agree(cluster, numbered(0, 3000)))
})

test('a leader that is cut off answers the commands that it cannot commit', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  cluster.network.cut([leader.id], others(cluster, leader.id))
  const fate = codeOf(leader.apply(bytes('lost'), { timeoutMs: 100_000 }))
  const next = await cluster.leader(others(cluster, leader.id))
  await cluster.apply(next, ['kept'])
  t.is(await codeOf(leader.apply(bytes('late'))), 'NOT_LEADER')
  cluster.network.heal()
  t.is(await cluster.settled(fate), 'NOT_LEADER')
  t.true(await agree(cluster, ['kept']))
})

test('a deposed leader that returns gives up entries that nobody else has', async (t) => {
  await using cluster = await MemoryCluster.start(5)
  const leader = await cluster.leader()
  const rest = others(cluster, leader.id)
  cluster.network.cut([leader.id], rest)
  const lost: string[] = []
  writeAll(leader, numbered(1000, 50), lost)
  const next = await cluster.leader(rest)
  await cluster.apply(next, numbered(0, 5))
  cluster.network.heal()
  t.true(await agree(cluster, numbered(0, 5)))
  t.deepEqual(lost, [])
  t.deepEqual(cluster.commands(leader.id), numbered(0, 5))
})

test('a barrier comes after everything before it', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const done: string[] = []
  writeAll(leader, numbered(0, 100), done)
  await cluster.settled(leader.barrier())
  t.is(cluster.commands(leader.id).length, 100)
})

test('a new leader whose barrier is through has applied all that the old one acknowledged', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.apply(leader, numbered(0, 10))
  await cluster.down(leader.id)
  const next = await cluster.leader()
  await cluster.settled(next.barrier())
  t.deepEqual(cluster.commands(next.id), numbered(0, 10))
})

// --- Membership -----------------------------------------------------------------------------------

test('a server that joins gets the whole log, and one that rejoins does again', async (t) => {
  await using cluster = await MemoryCluster.start(1)
  const leader = await cluster.leader()
  await cluster.apply(leader, numbered(0, 50))
  await cluster.up('n2')
  await cluster.settled(leader.addVoter('n2', 'at-n2', { staging: true }))
  t.true(await agree(cluster, numbered(0, 50)))
  await cluster.settled(leader.removeServer('n2'))
  await cluster.apply(leader, ['alone'])
  await cluster.settled(leader.addLearner('n2', 'at-n2'))
  t.true(await agree(cluster, ['alone']))
})

test('a removed follower falls silent and disturbs nobody', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const gone = follower(cluster, leader)
  await cluster.settled(leader.removeServer(gone.id))
  const { term } = leader
  await cluster.clock.advance(30_000)
  t.is(leader.term, term)
  t.is(gone.role, 'follower')
  t.false(leader.configuration.servers.some(({ id }) => id === gone.id))
})

test('a removed leader makes room, and as a stranger it follows nobody into office', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.settled(leader.removeServer(leader.id))
  const rest = others(cluster, leader.id)
  const next = await cluster.leader(rest)
  await cluster.apply(next, ['a'])
  await cluster.clock.advance(10_000)
  t.is(leader.role, 'follower')
  t.is(next.role, 'leader')
  t.is(await codeOf(leader.apply(bytes('x'))), 'NOT_LEADER')
})

test('in a split group no side without a quorum can remove the other', async (t) => {
  await using cluster = await MemoryCluster.start(4)
  const leader = await cluster.leader()
  const [a = '', b = '', c = ''] = others(cluster, leader.id)
  cluster.network.cut([leader.id, a], [b, c])
  const removal = codeOf(leader.removeServer(b, { timeoutMs: 4000 }))
  t.is(await cluster.settled(removal), 'TIMED_OUT')
  await cluster.clock.advance(5000)
  t.false(cluster.running.some(({ role }) => role === 'leader'))
  cluster.network.heal()
  await cluster.apply(await cluster.leader(), ['a'])
})

test('a server that is known already is added again without harm', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const known = follower(cluster, leader).id
  await cluster.settled(leader.addVoter(known, `at-${known}`))
  t.is(leader.configuration.servers.length, 3)
  t.is(await fateOf(cluster, leader.addLearner(known, 'x')), 'FAILED_PRECONDITION')
})

test('a server that is unknown cannot be removed or demoted', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  t.is(await fateOf(cluster, leader.removeServer('n9')), 'NOT_FOUND')
  t.is(await fateOf(cluster, leader.demoteVoter('n9')), 'NOT_FOUND')
})

test('a demoted voter keeps learning, does not campaign, and its leader needs it no more', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const demoted = follower(cluster, leader)
  await cluster.settled(leader.demoteVoter(demoted.id))
  await cluster.apply(leader, ['a'])
  await cluster.converged()
  cluster.network.cut([demoted.id], others(cluster, demoted.id))
  const { term } = leader
  await cluster.clock.advance(20_000)
  cluster.network.heal()
  await cluster.clock.advance(5000)
  t.is(leader.term, term)
  t.is(demoted.term, term)
})

test('a stranger gets no votes, though it asks for them', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.down(leader.id)
  const asked: Message = {
    type: 'vote',
    from: memberNumber('stranger'),
    to: memberNumber('n1'),
    term: 50,
    index: 1000,
    logTerm: 49,
    transfer: false,
  }
  const answers: Message[] = []
  const transport = cluster.network.transport('stranger')
  transport.start({
    onMessage: (_from, message) => void answers.push(message),
    onSnapshot: () => Promise.reject(new SwarmError('UNAVAILABLE', 'a stranger')),
    onUnreachable: () => undefined,
  })
  for (const { id } of cluster.running) transport.send(id, [{ ...asked, to: memberNumber(id) }])
  await cluster.clock.advance(100)
  await cluster.leader()
  t.true(answers.length <= 2, 'whatever they answered, it is not their leader')
  t.false(cluster.running.some((raft) => raft.leader === 'stranger'))
  await transport.close()
})

test('a learner with a higher term joins, and the group comes to rest', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.settled(leader.addLearner('n4', 'at-n4'))
  await cluster.up('n4')
  await cluster.converged()
  await cluster.down('n4')
  const { logStore } = cluster.place('n4')
  const { hardState } = await logStore.open()
  await logStore.append({ entries: [], hardState: { ...hardState, term: 40, vote: 0 } })
  await logStore.close()
  await cluster.up('n4')
  await cluster.clock.advance(10_000)
  const next = await cluster.leader()
  t.true(next.term >= 40)
  t.not(next.id, 'n4')
  await cluster.apply(next, ['a'])
  t.true(await agree(cluster, ['a']))
})

// --- Snapshots ------------------------------------------------------------------------------------

test('shorter timeouts, reloaded while all run, make elections quicker', async (t) => {
  await using cluster = await MemoryCluster.start(3, { raft: { electionTicks: 50 } })
  const leader = await cluster.leader()
  for (const raft of cluster.running) raft.reloadConfig({ electionTicks: 5 })
  const startMs = cluster.clock.monotonicMs()
  await cluster.down(leader.id)
  await cluster.leader()
  t.true(cluster.clock.monotonicMs() - startMs < 2500)
})

test('a member whose event loop stood still for seconds is still a good follower', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const { term } = leader
  for (let turn = 0; turn < 5; turn += 1) {
    cluster.clock.stall(7000)
    await cluster.clock.advance(1000)
  }
  t.is(leader.term, term, 'one tick for each stall, not seventy')
})

test('a failing log store ends the member, and what was on its way is answered', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const { logStore } = cluster.place(leader.id)
  if (logStore instanceof MemoryLogStore) logStore.failWith(new SwarmError('STORAGE_FULL', 'full'))
  const fates = await cluster.settled(
    Promise.all(numbered(0, 10).map((command) => codeOf(leader.apply(bytes(command))))),
  )
  t.true(fates.every((code) => code === 'STORAGE_FULL'))
  await cluster.apply(await cluster.leader(others(cluster, leader.id)), ['a'])
})
