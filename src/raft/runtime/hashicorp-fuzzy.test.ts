/* Behaviours of hashicorp/raft's suite (see hashicorp-behaviours.test.ts): integ_test.go and fuzzy/. */
import test from 'ava'
import { at } from '../../base/assert.ts'
import { seededRandom } from '../../base/random.ts'
import { SMALL_SNAPSHOTS as small, agree, numbered, others, writeAll } from './cluster-steps.ts'
import { MemoryCluster } from './memory-cluster.ts'

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
