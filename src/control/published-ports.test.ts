/** Published ports as the leader gives them out, on the real store and control plane. */
import test from 'ava'
import type { PortConfig, ServiceSpec } from '../store/spec.ts'
import { serviceSpec } from '../store/testing/fixtures.ts'
import { FakeSwarm } from './testing/fake-swarm.ts'

function publishing(name: string, ...Ports: readonly PortConfig[]): ServiceSpec {
  return { ...serviceSpec(name), EndpointSpec: { Ports } }
}

test('a port that the user left open is one of the range, on hosts too, and nobody else’s', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(2)
  const open = { TargetPort: 80 }
  const ids = [
    swarm.createService(publishing('host', { ...open, PublishMode: 'host' })),
    swarm.createService(publishing('mesh', open)),
  ]
  await swarm.settle()
  const given = (): (number | undefined)[] =>
    ids.map((id) => swarm.service(id).endpoint?.ports[0]?.publishedPort)
  t.deepEqual(given(), [30_000, 30_001])
  t.is(swarm.tasks(ids[0] ?? '')[0]?.ports[0]?.publishedPort, 30_000, 'what the task is told')
  swarm.updateService(ids[0] ?? '', (spec) => ({ ...spec, Labels: { a: 'b' } }))
  await swarm.settle()
  t.deepEqual(given(), [30_000, 30_001], 'it stays')
})

test('ports by which nodes talk to one another are refused', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(1)
  swarm.updateNode('n0', () => ({ addresses: ['/ip4/192.0.2.1/tcp/2399'] }))
  const create = (port: Partial<PortConfig>): string =>
    swarm.createService(publishing('web', { TargetPort: 80, ...port }))
  t.throws(() => create({ PublishedPort: 2399 }), {
    code: 'INVALID_ARGUMENT',
    message: /^port '2399' is already in use by the swarm itself, for node /,
  })
  t.throws(() => create({ PublishedPort: 4789, Protocol: 'udp', PublishMode: 'host' }), {
    message: /for the tunnels between nodes/,
  })
  t.notThrows(() => create({ PublishedPort: 2399, Protocol: 'udp' }))
})
