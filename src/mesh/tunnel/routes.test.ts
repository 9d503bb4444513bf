/* What neighbours are told, what is made of what they say, and which way is taken. */
import test from 'ava'
import { SwarmError } from '../../base/errors.ts'
import { components, pause, until } from '../testing/swarm.ts'
import { ANNOUNCED_IDS_MAX, LinkStates } from './link-states.ts'
import { checkedPlace } from './path.ts'
import { RouteFinder } from './route-finder.ts'
import type { Neighbour } from './link-states.ts'

function neighbour(nodeId: string, rttMs = 1, incarnation = '1'): Neighbour {
  return { nodeId, incarnation, rttMs }
}

interface Told {
  readonly to: string
  readonly body: { readonly kind: string; readonly ids: readonly string[]; sequence: number }
}

function scene(members: readonly string[]): {
  readonly links: LinkStates
  readonly told: Told[]
  neighbours: Neighbour[]
  fails: boolean
} {
  const told: Told[] = []
  const state = { neighbours: [] as Neighbour[], fails: false }
  const links = new LinkStates('run', {
    ...components,
    neighbours: () => state.neighbours,
    members: () => members,
    send: (to, body) => {
      if (state.fails) return Promise.reject(new SwarmError('UNAVAILABLE', 'link: lost'))
      told.push({ to, body: body as Told['body'] })
      return Promise.resolve(null)
    },
  })
  return Object.assign(state, { links, told })
}

test('neighbours are told which members have no link, once for each change', async (t) => {
  const net = scene(['b', 'c', 'd'])
  net.neighbours = [neighbour('b'), neighbour('c')]
  net.links.changed()
  net.links.changed()
  await until(() => net.told.length === 2)
  t.like(net.told[0], { to: 'b', body: { kind: 'allBut', ids: ['d'] } })
  net.links.changed()
  await pause(150)
  t.is(net.told.length, 2, 'nothing is new')
  net.neighbours = [neighbour('b')]
  net.links.changed()
  await until(() => net.told.length === 3)
  t.like(net.told[2], { to: 'b', body: { kind: 'only', ids: ['b'] } })
  net.links.close()
})

test('a neighbour that was started anew is told again', async (t) => {
  const net = scene(['b'])
  net.neighbours = [neighbour('b')]
  net.links.changed()
  await until(() => net.told.length === 1)
  net.neighbours = [neighbour('b', 1, '2')]
  net.links.changed()
  await until(() => net.told.length === 2)
  t.is(net.told[1]?.body.sequence, net.told[0]?.body.sequence)
  net.links.close()
})

test('an announcement that was lost is repeated', async (t) => {
  const net = scene(['b'])
  net.neighbours = [neighbour('b')]
  net.fails = true
  net.links.changed()
  await pause(150)
  net.fails = false
  await until(() => net.told.length === 1)
  t.is(net.told[0]?.to, 'b')
  net.links.close()
})

test('a claim holds until a newer one or the end of the link, and never about its maker', (t) => {
  const net = scene(['b', 'c', 'd'])
  net.neighbours = [neighbour('b')]
  const claim = { epoch: 'x', sequence: 2, kind: 'allBut', ids: ['d'] }
  t.true(net.links.take('b', claim))
  t.true(net.links.claims('b', 'c'))
  t.false(net.links.claims('b', 'd'))
  t.false(net.links.claims('b', 'b'))
  t.false(net.links.take('b', { ...claim, sequence: 1, kind: 'only' }), 'it was overtaken')
  t.true(net.links.claims('b', 'c'))
  t.true(net.links.take('b', { ...claim, epoch: 'y', sequence: 1, kind: 'only' }), 'a new run')
  t.false(net.links.claims('b', 'c'))
  t.true(net.links.claims('b', 'd'))
  net.neighbours = []
  net.links.changed()
  t.false(net.links.claims('b', 'd'))
  const ids = Array.from({ length: ANNOUNCED_IDS_MAX + 1 }, String)
  t.throws(() => net.links.take('b', { ...claim, ids }), { code: 'INVALID_ARGUMENT' })
  net.links.close()
})

test('the nearest relay is taken, one that failed is passed over, then two in a row', async (t) => {
  const claims = new Set(['b z', 'c z'])
  const asked: string[] = []
  const finder = new RouteFinder('a', {
    ...components,
    links: { claims: (one, other) => claims.has(`${one} ${other}`) },
    neighbours: () => [neighbour('b', 9), neighbour('c', 2), neighbour('d', 5)],
    ask: (one) => {
      asked.push(one)
      if (one === 'c') return Promise.reject(new SwarmError('TIMED_OUT', 'no answer'))
      return Promise.resolve(one === 'd' ? ['a', 'e'] : [])
    },
  })
  t.deepEqual(await finder.find('z'), ['a', 'c', 'z'])
  finder.avoid(['a', 'c', 'z'])
  t.deepEqual(await finder.find('z'), ['a', 'b', 'z'])
  t.deepEqual(asked, [])
  finder.avoid(['a', 'b', 'z'])
  t.deepEqual(await finder.find('z'), ['a', 'd', 'e', 'z'], 'and never a loop')
  t.deepEqual(asked, ['c', 'd', 'b'])
  finder.avoid(['a', 'd', 'e', 'z'])
  t.is(await finder.find('z'), undefined)
})

test('a node takes part only in a path in which it stands after its caller', (t) => {
  const hop = { self: 'b', caller: 'a' }
  t.deepEqual(checkedPlace({ path: ['a', 'b', 'c'], at: 1 }, hop), { path: ['a', 'b', 'c'], at: 1 })
  for (const header of [
    { path: ['a', 'b'], at: 1 },
    { path: ['a', 'b', 'c'], at: 0 },
    { path: ['a', 'b', 'c'], at: 2 },
    { path: ['a', 'b', 'a'], at: 1 },
    { path: ['a', 'b', 'c', 'd', 'e'], at: 1 },
    { path: ['a', 'b', 3], at: 1 },
    { path: 'abc', at: 1 },
    { path: ['a', 'b', 'c'] },
    null,
  ]) {
    t.throws(() => checkedPlace(header, hop), { code: 'INVALID_ARGUMENT' }, JSON.stringify(header))
  }
  const elsewhere = { path: ['x', 'b', 'c'], at: 1 }
  t.throws(() => checkedPlace(elsewhere, hop), { code: 'PERMISSION_DENIED' })
})
