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
import { silentLogger } from '../../base/log.ts'
import { seededRandom } from '../../base/random.ts'
import type { Entry } from '../core/entry.ts'
import type { Message } from '../core/message.ts'
import { MemoryLogStore } from '../storage/memory-log-store.ts'
import { bytes, codeOf, fateOf, follower, numbered, others } from './cluster-steps.ts'
import { ListMachine, MemoryCluster } from './memory-cluster.ts'
import { memberNumber } from './member-numbers.ts'
import { Raft } from './raft.ts'
import type { Leadership } from './member-view.ts'
import { sampleTransfer } from '../testing/sample-transfer.ts'

const small = { snapshotThreshold: 50, trailingEntries: 10 }

async function* source(text: string): AsyncGenerator<Uint8Array> {
  yield bytes(text)
}

/** The entries that all running members have, by member. */
async function logs(cluster: MemoryCluster): Promise<readonly (readonly Entry[])[]> {
  const from = Math.max(...cluster.running.map((raft) => raft.stats().firstIndex))
  const to = Math.min(...cluster.running.map(({ commitIndex }) => commitIndex))
  return Promise.all(cluster.running.map(({ id }) => cluster.place(id).logStore.read(from, to + 1)))
}

/** The checks at the end of each of hashicorp's fuzzy tests. */
async function agree(cluster: MemoryCluster, acknowledged: readonly string[]): Promise<boolean> {
  await cluster.leader()
  await cluster.converged()
  const [first, ...rest] = (await logs(cluster)).map((entries) => JSON.stringify(entries))
  const machines = cluster.running.map(({ id }) => cluster.commands(id).join())
  const applied = new Set(cluster.commands(at(cluster.running, 0).id))
  const isSame = rest.every((one) => one === first) && new Set(machines).size === 1
  return isSame && acknowledged.every((command) => applied.has(command))
}

/** Writes `commands` somewhere, and notes which were acknowledged. */
function writeAll(raft: Raft<number>, commands: readonly string[], into: string[]): void {
  for (const command of commands) {
    raft.apply(bytes(command), { timeoutMs: 20_000 }).then(
      () => into.push(command),
      () => undefined,
    )
  }
}

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

test('a member restarts from its snapshot and the log behind it, also with other peers', async (t) => {
  await using cluster = await MemoryCluster.start(3, { raft: small })
  const leader = await cluster.leader()
  for (let turn = 0; turn < 8; turn += 1) await cluster.apply(leader, numbered(turn * 20, 20))
  await cluster.settled(leader.addLearner('n4', 'at-n4'))
  await cluster.converged(['n1', 'n2', 'n3'])
  for (const id of ['n1', 'n2', 'n3']) await cluster.down(id)
  const restarted = await cluster.up('n2')
  t.is(cluster.place('n2').machine.restores, 1)
  await cluster.up('n3')
  await cluster.leader()
  t.true(restarted.configuration.servers.length === 4)
  t.deepEqual(cluster.commands('n2'), numbered(0, 160))
})

test('a snapshot that was asked for is taken once and then named again', async (t) => {
  await using cluster = await MemoryCluster.start(1)
  const leader = await cluster.leader()
  await cluster.apply(leader, ['a'])
  const first = await cluster.settled(leader.snapshot())
  const again = await cluster.settled(leader.snapshot())
  t.is(again.id, first.id)
  t.is(first.metadata.index, leader.appliedIndex)
})

test('a snapshot of nothing is refused', async (t) => {
  await using cluster = new MemoryCluster()
  const raft = await cluster.up('n1')
  t.is(await codeOf(raft.snapshot()), 'FAILED_PRECONDITION')
})

test('snapshots are taken by themselves', async (t) => {
  await using cluster = await MemoryCluster.start(1, { raft: small })
  const leader = await cluster.leader()
  for (let turn = 0; turn < 6; turn += 1) await cluster.apply(leader, numbered(turn * 10, 10))
  await cluster.until(() => leader.stats().snapshotIndex >= 50, 'a snapshot')
  t.pass()
})

for (const withLogs of [false, true]) {
  const what = withLogs ? 'a snapshot and the log behind it' : 'a snapshot'
  test(`a follower that is far behind is sent ${what}`, async (t) => {
    await using cluster = await MemoryCluster.start(3)
    const leader = await cluster.leader()
    const behind = at(others(cluster, leader.id), 0)
    await cluster.down(behind)
    await cluster.apply(leader, numbered(0, 100))
    leader.reloadConfig({ trailingEntries: 0 })
    await cluster.settled(leader.snapshot())
    await cluster.until(() => leader.stats().firstIndex > 100, 'compaction')
    if (withLogs) await cluster.apply(leader, numbered(100, 100))
    await cluster.up(behind)
    t.true(await agree(cluster, numbered(0, withLogs ? 200 : 100)))
    t.is(cluster.place(behind).machine.restores, 1)
  })
}

test('a user restores old states again and again, between and after writes', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  for (const offset of [0, 1, 2, 100]) {
    await cluster.apply(leader, numbered(0, 10))
    const before = leader.lastIndex
    await cluster.apply(leader, numbered(10, offset))
    const pending = codeOf(leader.apply(bytes('in flight')))
    const index = await cluster.settled(leader.restore(source('old\nstate\n')))
    t.true(['ABORTED', 'ok'].includes(await pending))
    t.true(index > before + offset)
    await cluster.apply(leader, ['new'])
    await cluster.converged()
    for (const { id } of cluster.running) t.deepEqual(cluster.commands(id), ['old', 'state', 'new'])
  }
  const last = follower(cluster, leader).id
  await cluster.down(last)
  await cluster.up(last)
  await cluster.converged()
  t.deepEqual(cluster.commands(last), ['old', 'state', 'new'])
})

test('a snapshot that does not name its receiver, or comes from nobody, changes nothing', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.apply(leader, ['kept'])
  const transport = cluster.network.transport('stranger')
  const conf = {
    voters: [memberNumber('stranger')],
    votersOutgoing: [],
    learners: [],
    learnersNext: [],
    autoLeave: false,
  }
  const metadata = { index: 1000, term: leader.term, conf }
  const to = memberNumber('n1')
  const head = { from: memberNumber('stranger'), to, term: leader.term }
  const message = { type: 'snap', ...head, snapshot: { metadata } } as const
  const evil = { ...sampleTransfer([bytes('evil\n')]), membership: new Uint8Array() }
  const sent = transport.sendSnapshot(
    'n1',
    { ...evil, message, metadata },
    { signal: new AbortController().signal },
  )
  await fateOf(cluster, sent)
  await cluster.clock.advance(1000)
  t.deepEqual(cluster.commands('n1'), ['kept'])
  t.is(cluster.raft('n1').configuration.servers.length, 3)
  await transport.close()
})

test('stores that do not fit together are refused at the start', async (t) => {
  await using cluster = await MemoryCluster.start(1, { raft: small })
  const leader = await cluster.leader()
  for (let turn = 0; turn < 6; turn += 1) await cluster.apply(leader, numbered(turn * 20, 20))
  await cluster.until(() => leader.stats().firstIndex > 10, 'compaction')
  await cluster.down('n1')
  const empty = new MemoryCluster().place('n1').snapshotStore
  const { logStore } = cluster.place('n1')
  const { clock } = cluster
  const opened = Raft.open(
    {
      logStore,
      snapshotStore: empty,
      transport: cluster.network.transport('n1'),
      stateMachine: new ListMachine(),
      clock,
      random: seededRandom(1),
      log: silentLogger,
    },
    { id: 'n1', address: 'x' },
  )
  t.is(await codeOf(opened), 'STORAGE_CORRUPT')
})

// --- Leases, verification, notification -----------------------------------------------------------

test('a leader that hears no quorum leads no more, within two election timeouts', async (t) => {
  await using cluster = await MemoryCluster.start(2)
  const leader = await cluster.leader()
  const startMs = cluster.clock.monotonicMs()
  await cluster.down(at(others(cluster, leader.id), 0))
  await cluster.until(() => leader.role !== 'leader', 'stepping down')
  t.true(cluster.clock.monotonicMs() - startMs <= 2100)
  t.is(leader.leader, undefined)
})

test('leadership is proved alone, with all, with a part, and not without a quorum', async (t) => {
  await using lonely = await MemoryCluster.start(1)
  await lonely.settled((await lonely.leader()).verifyLeader())
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.settled(leader.verifyLeader())
  const [one = '', two = ''] = others(cluster, leader.id)
  cluster.network.cut([leader.id], [one])
  await cluster.settled(leader.verifyLeader())
  cluster.network.cut([leader.id], [one, two])
  const fate = await fateOf(cluster, leader.verifyLeader({ timeoutMs: 3000 }))
  t.true(['TIMED_OUT', 'NOT_LEADER'].includes(fate))
  t.is(await codeOf(cluster.raft(one).verifyLeader()), 'NOT_LEADER')
})

test('the loss and the return of leadership are told', async (t) => {
  await using cluster = await MemoryCluster.start(1)
  const leader = await cluster.leader()
  const told: Leadership[] = []
  leader.onLeadership((one) => told.push(one))
  await using group = await MemoryCluster.start(3)
  const first = await group.leader()
  const seen: boolean[] = []
  first.onLeadership(({ isLeader }) => seen.push(isLeader))
  group.network.cut([first.id], others(group, first.id))
  await group.until(() => first.role !== 'leader', 'stepping down')
  group.network.heal()
  await group.leader()
  t.is(seen[0], false)
  t.deepEqual(told, [])
})

test('everybody knows the leader by its id', async (t) => {
  await using cluster = await MemoryCluster.start(5)
  const leader = await cluster.leader()
  t.true(cluster.running.every((raft) => raft.leader === leader.id))
  t.is(leader.configuration.servers.find(({ id }) => id === leader.id)?.address, `at-${leader.id}`)
})

test('no vote is given while a leader is heard', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const { term } = leader
  const member = follower(cluster, leader)
  for (let turn = 0; turn < 5; turn += 1) {
    void codeOf(member.campaign({ timeoutMs: 200 }))
    await cluster.clock.advance(300)
  }
  t.is(leader.role, 'leader')
  t.is(leader.term, term)
})

test('a member that was partitioned for long costs no election when it returns', async (t) => {
  await using cluster = await MemoryCluster.start(5)
  const leader = await cluster.leader()
  const { term } = leader
  const lonely = others(cluster, leader.id).slice(0, 2)
  cluster.network.cut(lonely, [leader.id, ...others(cluster, leader.id).slice(2)])
  await cluster.clock.advance(60_000)
  for (const id of lonely) t.is(cluster.raft(id).term, term)
  cluster.network.heal()
  await cluster.clock.advance(5000)
  t.is(leader.term, term)
  t.is(leader.role, 'leader')
})

test('a member that can send but not hear never deposes the leader', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const { term } = leader
  const deaf = at(others(cluster, leader.id), 0)
  for (const id of others(cluster, deaf)) cluster.network.cutOneWay(id, deaf)
  await cluster.clock.advance(30_000)
  t.is(leader.term, term)
  await cluster.apply(leader, ['a'])
})

test('a follower whose disk is slow does not slow the group down', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const slow = follower(cluster, leader)
  cluster.network.drop((_from, to, { type }) => to === slow.id && type === 'app')
  const startMs = cluster.clock.monotonicMs()
  await cluster.apply(leader, numbered(0, 100))
  t.true(cluster.clock.monotonicMs() - startMs < 200)
})

// --- Transfer -------------------------------------------------------------------------------------

test('a transfer picks the most current voter and never a learner', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.up('n4')
  await cluster.settled(leader.addLearner('n4', 'at-n4'))
  const [behind = '', current = ''] = others(cluster, leader.id)
  cluster.network.cut([behind], [leader.id])
  await cluster.apply(leader, numbered(0, 10))
  await cluster.settled(leader.transferLeadership())
  t.is(leader.leader, current)
})

test('a transfer in a group of one has nobody to go to', async (t) => {
  await using cluster = await MemoryCluster.start(1)
  t.is(await codeOf((await cluster.leader()).transferLeadership()), 'FAILED_PRECONDITION')
})

test('a transfer in a group of seven succeeds', async (t) => {
  await using cluster = await MemoryCluster.start(7)
  const leader = await cluster.leader()
  const target = at(others(cluster, leader.id), 3)
  await cluster.settled(leader.transferLeadership(target))
  t.is((await cluster.leader()).id, target)
})

test('transfers under writes lose nothing that was acknowledged', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const done: string[] = []
  for (let turn = 0; turn < 5; turn += 1) {
    const leader = await cluster.leader()
    writeAll(leader, numbered(turn * 100, 50), done)
    await cluster.clock.advance(1)
    await fateOf(cluster, leader.transferLeadership())
    writeAll(leader, numbered(turn * 100 + 50, 10), done)
  }
  await cluster.clock.advance(30_000)
  t.true(await agree(cluster, done))
  t.true(done.length > 100)
})

test('a transfer to who is no member, or is a learner, is refused', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  t.is(await codeOf(leader.transferLeadership('n9')), 'NOT_FOUND')
  await cluster.settled(leader.addLearner('n4', 'at-n4'))
  t.is(await codeOf(leader.transferLeadership('n4')), 'NOT_FOUND')
  await cluster.apply(leader, ['a'])
})

test('a transfer to itself has come true already', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await leader.transferLeadership(leader.id)
  t.is(leader.role, 'leader')
})

test('a transfer waits until its target has everything', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const target = at(others(cluster, leader.id), 0)
  cluster.network.cut([target], others(cluster, target))
  await cluster.apply(leader, numbered(0, 500))
  cluster.network.heal()
  await cluster.settled(leader.transferLeadership(target))
  t.is(cluster.raft(target).role, 'leader')
  t.true(await agree(cluster, numbered(0, 500)))
})

test('a transfer to who cannot be reached is given up, and the leader writes again', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const target = at(others(cluster, leader.id), 0)
  cluster.network.cut([target], others(cluster, target))
  await cluster.apply(leader, ['a'])
  const transfer = codeOf(leader.transferLeadership(target))
  t.is(await fateOf(cluster, leader.apply(bytes('x'))), 'UNAVAILABLE')
  t.is(await cluster.settled(transfer), 'TIMED_OUT')
  await cluster.apply(leader, ['b'])
})

test('a member that stops right after it asked for a transfer stops', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const transfer = codeOf(leader.transferLeadership())
  await cluster.down(leader.id)
  t.true(['SHUTTING_DOWN', 'ok'].includes(await transfer))
  await cluster.apply(await cluster.leader(), ['a'])
})

// --- Time -----------------------------------------------------------------------------------------

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

// --- integ_test.go and fuzzy/ ---------------------------------------------------------------------

test('fuzzy: the leader and others are cut off again and again', async (t) => {
  await using cluster = await MemoryCluster.start(5, { seed: 11 })
  const random = seededRandom(5)
  const done: string[] = []
  for (let round = 0; round < 10; round += 1) {
    const leader = await cluster.leader()
    const rest = others(cluster, leader.id)
    const away = [leader.id, ...rest.slice(0, random.integer(2))]
    writeAll(leader, numbered(round * 100, 20), done)
    await cluster.clock.advance(random.integer(5))
    cluster.network.cut(
      away,
      others(cluster, '').filter((id) => !away.includes(id)),
    )
    const next = await cluster.leader(others(cluster, '').filter((id) => !away.includes(id)))
    writeAll(next, numbered(round * 100 + 50, 20), done)
    await cluster.clock.advance(random.integer(2000))
    cluster.network.heal()
  }
  await cluster.clock.advance(30_000)
  t.true(await agree(cluster, done))
  t.true(done.length >= 200)
})

test('fuzzy: a group grows from three to five and shrinks again without its leader', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const done: string[] = []
  const leader = await cluster.leader()
  writeAll(leader, numbered(0, 50), done)
  for (const id of ['n4', 'n5']) {
    await cluster.up(id)
    await cluster.settled(leader.addVoter(id, `at-${id}`, { staging: true }))
    writeAll(leader, numbered(leader.lastIndex * 10, 50), done)
  }
  t.true(await agree(cluster, done))
  await cluster.settled(leader.removeServer(leader.id))
  const next = await cluster.leader(others(cluster, leader.id))
  await cluster.down(leader.id)
  const gone = at(
    others(cluster, next.id).filter((id) => id !== leader.id),
    0,
  )
  await cluster.settled(next.removeServer(gone))
  await cluster.down(gone)
  writeAll(next, numbered(9000, 50), done)
  await cluster.clock.advance(25_000)
  t.true(await agree(cluster, done))
  t.is(next.configuration.servers.length, 3)
})

test('fuzzy: a member that is cut off is removed, and finds that out never or in peace', async (t) => {
  await using cluster = await MemoryCluster.start(5)
  const leader = await cluster.leader()
  const gone = at(others(cluster, leader.id), 1)
  cluster.network.cut([gone], others(cluster, gone))
  await cluster.settled(leader.removeServer(gone))
  await cluster.apply(leader, numbered(0, 20))
  const { term } = leader
  cluster.network.heal()
  await cluster.clock.advance(30_000)
  t.is(leader.term, term)
  await cluster.down(gone)
  t.true(await agree(cluster, numbered(0, 20)))
})

for (const [what, type] of [
  ['requests', 'vote'],
  ['answers', 'voteResp'],
] as const) {
  test(`fuzzy: slow vote ${what} delay an election, no more`, async (t) => {
    await using cluster = await MemoryCluster.start(5)
    const random = seededRandom(3)
    const leader = await cluster.leader()
    await cluster.apply(leader, ['a'])
    cluster.network.drop((_from, _to, message) => message.type === type && random.integer(3) > 0)
    await cluster.down(leader.id)
    await cluster.apply(await cluster.leader(), ['b'])
    t.true(await agree(cluster, ['a', 'b']))
  })
}

test('integ: restarts of one member after another under load lose nothing', async (t) => {
  await using cluster = await MemoryCluster.start(3, { raft: small })
  const done: string[] = []
  for (const [turn, id] of [...cluster.places.keys(), 'n1', 'n2'].entries()) {
    const leader = await cluster.leader()
    writeAll(leader, numbered(turn * 100, 80), done)
    await cluster.clock.advance(3)
    await cluster.down(id)
    const next = await cluster.leader()
    writeAll(next, numbered(turn * 100 + 80, 20), done)
    await cluster.clock.advance(500)
    await cluster.up(id)
  }
  await cluster.clock.advance(25_000)
  t.true(await agree(cluster, done))
  t.true(done.length > 300)
})
