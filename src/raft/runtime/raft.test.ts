import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { at } from '../../base/assert.ts'
import { SwarmError } from '../../base/errors.ts'
import { FileSnapshotStore } from '../storage/file-snapshot-store.ts'
import { LevelLogStore } from '../storage/level-log-store.ts'
import { MemoryLogStore } from '../storage/memory-log-store.ts'
import { SMALL_SNAPSHOTS as small, bytes, codeOf, numbered, others } from './cluster-steps.ts'
import { MemoryCluster } from './memory-cluster.ts'
import { Raft } from './raft.ts'

for (const size of [1, 3, 5]) {
  test(`a group of ${size} elects one leader and applies commands on every member`, async (t) => {
    await using cluster = await MemoryCluster.start(size)
    const leader = await cluster.leader()
    t.is(cluster.running.filter(({ role }) => role === 'leader').length, 1)
    const result = await cluster.settled(leader.apply(bytes('first')))
    t.is(result.response, 1)
    t.is(result.term, leader.term)
    await cluster.apply(leader, ['second', 'third'])
    await cluster.converged()
    for (const id of cluster.places.keys()) {
      t.deepEqual(cluster.commands(id), ['first', 'second', 'third'])
    }
  })
}

test('a lone voter leads at once, also after a restart', async (t) => {
  await using cluster = await MemoryCluster.start(1)
  t.true(cluster.clock.monotonicMs() < 300)
  await cluster.down('n1')
  const restartMs = cluster.clock.monotonicMs()
  await cluster.up('n1')
  await cluster.leader()
  t.true(cluster.clock.monotonicMs() - restartMs < 300)
})

test('a follower refuses a command at once and names the leader', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const follower = cluster.raft(at(others(cluster, leader.id), 0))
  t.is(await codeOf(follower.apply(bytes('x'))), 'NOT_LEADER')
  t.is(await codeOf(follower.barrier()), 'NOT_LEADER')
  t.is(await codeOf(follower.addVoter('n9', 'x')), 'NOT_LEADER')
  t.is(follower.leader, leader.id)
})

test('an empty command, one that is too large, and a withdrawn one are refused', async (t) => {
  await using cluster = await MemoryCluster.start(1)
  const leader = await cluster.leader()
  t.is(await codeOf(leader.apply(new Uint8Array())), 'INVALID_ARGUMENT')
  t.is(await codeOf(leader.apply(new Uint8Array(9 * 1024 * 1024))), 'INVALID_ARGUMENT')
  t.is(await codeOf(leader.apply(bytes('x'), { signal: AbortSignal.abort() })), 'ABORTED')
})

test('when the leader is lost another takes over and nothing acknowledged is gone', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.apply(leader, ['a', 'b'])
  await cluster.down(leader.id)
  const next = await cluster.leader()
  t.not(next.id, leader.id)
  t.true(next.term > 1)
  await cluster.apply(next, ['c'])
  await cluster.up(leader.id)
  await cluster.leader()
  await cluster.converged()
  for (const id of cluster.places.keys()) t.deepEqual(cluster.commands(id), ['a', 'b', 'c'])
})

test('a leader whose connections close is replaced within a fifth of a second', async (t) => {
  for (let seed = 1; seed <= 10; seed += 1) {
    await using cluster = await MemoryCluster.start(3, { seed: seed * 100 })
    const leader = await cluster.leader()
    const endMs = cluster.clock.monotonicMs()
    await cluster.down(leader.id, { closed: true })
    await cluster.until(() => cluster.running.some(({ role }) => role === 'leader'), 'a successor')
    const tookMs = cluster.clock.monotonicMs() - endMs
    t.true(tookMs < 300, `seed ${seed}: took ${tookMs} ms`)
  }
})

test('a closed connection to a leader that lives deposes nobody', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const { term } = leader
  cluster.network.closeLink(at(others(cluster, leader.id), 0), leader.id)
  await cluster.clock.advance(3000)
  t.is(leader.role, 'leader')
  t.is(leader.term, term)
})

test('a minority refuses writes, the majority goes on, healing unites them', async (t) => {
  await using cluster = await MemoryCluster.start(5)
  const leader = await cluster.leader()
  await cluster.apply(leader, ['a'])
  const rest = others(cluster, leader.id)
  const minority = [leader.id, at(rest, 0)]
  const majority = rest.slice(1)
  cluster.network.cut(minority, majority)
  const lost = leader.apply(bytes('lost'), { timeoutMs: 5000 })
  const outcome = codeOf(lost)
  const next = await cluster.leader(majority)
  await cluster.apply(next, ['b', 'c'])
  t.is(await cluster.settled(outcome), 'TIMED_OUT')
  t.not(leader.role, 'leader', 'a leader without a quorum steps down')
  t.is(await codeOf(leader.apply(bytes('x'))), 'NOT_LEADER')
  cluster.network.heal()
  await cluster.leader()
  await cluster.converged()
  for (const id of cluster.places.keys()) t.deepEqual(cluster.commands(id), ['a', 'b', 'c'])
})

test('a member that was cut off does not disturb the leader when it returns', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const { term } = leader
  const lonely = at(others(cluster, leader.id), 0)
  cluster.network.cut([lonely], others(cluster, lonely))
  await cluster.clock.advance(30_000)
  cluster.network.heal()
  await cluster.clock.advance(5000)
  t.is(leader.role, 'leader')
  t.is(leader.term, term)
  t.is(cluster.raft(lonely).leader, leader.id)
})

test('a proposal that another leader replaced is reported as without effect', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const rest = others(cluster, leader.id)
  cluster.network.cut([leader.id], rest)
  const outcome = codeOf(leader.apply(bytes('replaced'), { timeoutMs: 60_000 }))
  const next = await cluster.leader(rest)
  await cluster.apply(next, ['kept'])
  cluster.network.heal()
  t.is(await cluster.settled(outcome), 'NOT_LEADER')
  t.deepEqual(cluster.commands(leader.id), ['kept'])
})

test('a proposal whose entry outlived its leader is answered with its result', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const rest = others(cluster, leader.id)
  await cluster.clock.advance(500) // the leader replicates without asking first
  const outcome = leader.apply(bytes('survives'), { timeoutMs: 60_000 })
  await Promise.resolve()
  await cluster.clock.advance(1) // the entry is with the followers, no answer is back yet
  cluster.network.cut([leader.id], rest)
  await cluster.leader(rest)
  cluster.network.heal()
  t.is((await cluster.settled(outcome)).response, 1)
})

test('a read index is confirmed on followers and never behind an acknowledged write', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const { index } = await cluster.settled(leader.apply(bytes('a')))
  for (const raft of cluster.running) {
    const read = await cluster.settled(raft.readIndex())
    t.true(read >= index)
    await cluster.settled(raft.waitApplied(read))
    t.deepEqual(cluster.commands(raft.id), ['a'])
  }
})

test('a cut-off leader neither proves that it leads nor answers a read', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.settled(leader.verifyLeader())
  cluster.network.cut([leader.id], others(cluster, leader.id))
  const verified = codeOf(leader.verifyLeader({ timeoutMs: 4000 }))
  const read = codeOf(leader.readIndex({ timeoutMs: 4000 }))
  t.true(['TIMED_OUT', 'NOT_LEADER'].includes(await cluster.settled(verified)))
  t.is(await cluster.settled(read), 'TIMED_OUT')
})

test('lost questions for a read index are asked again', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const follower = cluster.raft(at(others(cluster, leader.id), 0))
  let lost = 0
  cluster.network.drop((_from, _to, { type }) => type === 'readIndex' && (lost += 1) <= 2)
  const read = await cluster.settled(follower.readIndex())
  t.true(read > 0)
  t.true(lost >= 3)
})

test('leadership is handed to the named voter, or to the best one', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const target = at(others(cluster, leader.id), 1)
  await cluster.settled(leader.transferLeadership(target))
  t.is(cluster.raft(target).role, 'leader')
  const successor = cluster.raft(target)
  await cluster.settled(successor.transferLeadership())
  t.not((await cluster.leader()).id, target)
  t.is(await codeOf(successor.transferLeadership()), 'NOT_LEADER')
})

test('a transfer to a dead voter ends, and the leader takes writes again', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const dead = at(others(cluster, leader.id), 0)
  await cluster.down(dead)
  const transfer = codeOf(leader.transferLeadership(dead))
  t.is(await cluster.settled(transfer), 'TIMED_OUT')
  await cluster.apply(leader, ['a'])
  t.is(leader.role, 'leader')
})

test('shutdown with transfer leaves the others with a leader', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const startMs = cluster.clock.monotonicMs()
  await cluster.settled(leader.shutdown({ transfer: true }))
  cluster.place(leader.id).raft = undefined
  await cluster.leader()
  t.true(cluster.clock.monotonicMs() - startMs < 500)
})

test('leadership can be followed as a stream and by listeners', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const stop = new AbortController()
  const seen: (string | undefined)[] = []
  const reading = (async () => {
    for await (const { leader: id } of leader.leadership({ signal: stop.signal })) seen.push(id)
  })()
  const target = at(others(cluster, leader.id), 0)
  await cluster.settled(leader.transferLeadership(target))
  await cluster.clock.advance(100)
  stop.abort()
  await reading
  t.is(seen[0], leader.id)
  t.is(seen.at(-1), target)
})

test('an idle group writes nothing durable', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  await cluster.apply(leader, ['a'])
  await cluster.converged()
  await cluster.clock.advance(2000)
  const stores = [...cluster.places.values()].map(({ logStore }) => logStore as MemoryLogStore)
  const before = stores.map(({ writes }) => writes)
  await cluster.clock.advance(60_000)
  t.deepEqual(
    stores.map(({ writes }) => writes),
    before,
  )
})

test('a failed write stops the member for good, and the others go on', async (t) => {
  await using cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  const store = cluster.place(leader.id).logStore
  t.true(store instanceof MemoryLogStore)
  if (store instanceof MemoryLogStore) store.failWith(new SwarmError('STORAGE_FULL', 'disk: full'))
  const fatal: string[] = []
  leader.onFatal(({ code }) => fatal.push(code))
  t.is(await cluster.settled(codeOf(leader.apply(bytes('x')))), 'STORAGE_FULL')
  t.deepEqual(fatal, ['STORAGE_FULL'])
  t.is(await codeOf(leader.apply(bytes('y'))), 'STORAGE_FULL')
  t.is(leader.role, 'follower')
  const next = await cluster.leader(others(cluster, leader.id))
  await cluster.apply(next, ['a'])
})

test('a state machine that throws stops the member', async (t) => {
  await using cluster = await MemoryCluster.start(1)
  const leader = await cluster.leader()
  cluster.place('n1').machine.apply = () => {
    throw new Error('broken')
  }
  t.is(await cluster.settled(codeOf(leader.apply(bytes('x')))), 'INTERNAL')
  t.is(await codeOf(leader.barrier()), 'INTERNAL')
})

test('after a stop every waiting call fails and no timer is left', async (t) => {
  const cluster = await MemoryCluster.start(3)
  const leader = await cluster.leader()
  cluster.network.cut([leader.id], others(cluster, leader.id))
  const waiting = [leader.apply(bytes('x')), leader.readIndex(), leader.waitApplied(1000)].map(
    codeOf,
  )
  await Promise.resolve()
  await cluster[Symbol.asyncDispose]()
  t.deepEqual(await Promise.all(waiting), ['SHUTTING_DOWN', 'SHUTTING_DOWN', 'SHUTTING_DOWN'])
  await cluster.clock.advance(10)
  t.is(cluster.clock.pendingTimers, 0)
})

test('a second bootstrap is refused, and so is one without a voter', async (t) => {
  const cluster = await MemoryCluster.start(1)
  await cluster.down('n1')
  const servers = [{ id: 'n1', address: 'x', suffrage: 'voter' }] as const
  t.is(await codeOf(Raft.bootstrap(cluster.place('n1'), servers)), 'FAILED_PRECONDITION')
  t.is(await codeOf(Raft.bootstrap(cluster.place('n2'), [])), 'INVALID_ARGUMENT')
})

test('on LevelDB and files: a follower restarts, then all do, and nothing is lost', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'skein-raft-'))
  t.teardown(() => rm(directory, { recursive: true }))
  await using cluster = await MemoryCluster.start(3, {
    raft: small,
    pace: 0.2,
    stores: (id) => ({
      logStore: new LevelLogStore({ location: join(directory, id, 'log') }),
      snapshotStore: new FileSnapshotStore({ directory: join(directory, id, 'snapshots') }),
    }),
  })
  const leader = await cluster.leader()
  await cluster.apply(leader, numbered(0, 30))
  const follower = at(others(cluster, leader.id), 0)
  await cluster.down(follower)
  await cluster.apply(leader, numbered(30, 100))
  await cluster.up(follower)
  await cluster.converged()
  t.deepEqual(cluster.commands(follower), numbered(0, 130))
  for (const id of cluster.places.keys()) await cluster.down(id)
  for (const id of cluster.places.keys()) await cluster.up(id)
  const next = await cluster.leader()
  await cluster.apply(next, ['more'])
  await cluster.converged()
  for (const id of cluster.places.keys()) {
    t.deepEqual(cluster.commands(id), [...numbered(0, 130), 'more'])
    t.is(cluster.raft(id).configuration.servers.length, 3)
  }
})
