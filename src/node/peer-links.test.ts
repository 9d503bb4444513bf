/* The load balancer's view of real meshes whose wires are cut and mended. */
import test from 'ava'
import { RuggedWires } from '../mesh/testing/rugged-wires.ts'
import { until } from '../mesh/testing/swarm.ts'
import { MeshPeerLinks } from './peer-links.ts'

test('a node’s link is direct, relayed, or none, and each change is told', async (t) => {
  await using net = await RuggedWires.make(3)
  const links = new MeshPeerLinks(net.mesh(0))
  const [b, c] = [net.id(1), net.id(2)]
  const seen: string[] = []
  const undo = links.onChange(() => {
    const now = links.linkTo(c)
    if (seen.at(-1) !== now) seen.push(now)
  })
  t.is(links.linkTo(c), 'none')
  net.join()
  await until(() => seen.at(-1) === 'direct' && links.linkTo(b) === 'direct')
  await until(() => net.way(1, 2) === 'direct')
  net.set([0, 2], 'cut')
  await until(() => seen.at(-1) === 'relayed')
  net.setNode(2, 'cut')
  await until(() => seen.at(-1) === 'none')
  t.is(links.linkTo(b), 'direct')
  net.setNode(2, 'whole')
  await until(() => seen.at(-1) === 'direct')
  undo()
  t.deepEqual(
    seen.filter((state) => state !== 'none'),
    ['direct', 'relayed', ...seen.slice(seen.lastIndexOf('none') + 1)],
  )
  t.is(links.linkTo('no member'), 'none')
})
