/* Which node a task goes to. */
import test from 'ava'
import type { ServiceSpec } from '../store/spec.ts'
import { serviceSpec } from '../store/testing/fixtures.ts'
import { FakeSwarm } from './testing/fake-swarm.ts'
import { image, perNode, withTemplate } from './testing/specs.ts'

test('constraints and resources decide, and a pending task says why it waits', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(3)
  swarm.updateNode('n1', (node) => ({ spec: { ...node.spec, Labels: { disk: 'ssd' } } }))
  const ssd = { Placement: { Constraints: ['node.labels.disk == ssd'] } }
  const fit = swarm.createService(withTemplate(serviceSpec('fit', 2), ssd))
  const none = { Placement: { Constraints: ['node.labels.disk==tape'] } }
  const unfit = swarm.createService(withTemplate(serviceSpec('unfit'), none))
  const mixed = swarm.createService(
    withTemplate(serviceSpec('mixed'), {
      Placement: { Constraints: ['node.hostname!=host-n2'] },
      Resources: { Reservations: { NanoCPUs: 5e9 } },
    }),
  )
  swarm.setAvailability('n2', 'pause')
  await swarm.settle()
  t.deepEqual(perNode(swarm.running(fit)), { n1: 2 })
  const reason = (id: string): string | undefined => swarm.tasks(id)[0]?.status.err
  t.is(
    reason(unfit),
    'no suitable node (scheduling constraints not satisfied on 2 nodes; ' +
      '1 node not available for new tasks)',
  )
  t.is(
    reason(mixed),
    'no suitable node (insufficient resources on 2 nodes; 1 node not available for new tasks)',
  )
  swarm.updateNode('n0', (node) => ({ spec: { ...node.spec, Labels: { disk: 'tape' } } }))
  await swarm.settle()
  t.deepEqual(perNode(swarm.running(unfit)), { n0: 1 })
  t.is(reason(unfit), undefined)
})

test('reservations, host ports and replicas per node limit a node', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(2)
  const heavy = { Resources: { Reservations: { NanoCPUs: 3e9, MemoryBytes: 1024 } } }
  const id = swarm.createService(withTemplate(serviceSpec('heavy', 3), heavy))
  const port = { TargetPort: 80, PublishedPort: 9000, PublishMode: 'host' } as const
  const host = swarm.createService(serviceSpec('host', 3, { EndpointSpec: { Ports: [port] } }))
  const most = { Placement: { MaxReplicas: 1 } }
  const limited = swarm.createService(withTemplate(serviceSpec('limited', 3), most))
  await swarm.settle()
  t.deepEqual(perNode(swarm.running(id)), { n0: 1, n1: 1 })
  t.deepEqual(perNode(swarm.running(host)), { n0: 1, n1: 1 })
  t.deepEqual(perNode(swarm.running(limited)), { n0: 1, n1: 1 })
  const waiting = (serviceId: string): string | undefined =>
    swarm.tasks(serviceId).find((task) => task.nodeId === '')?.status.err
  t.is(waiting(id), 'no suitable node (insufficient resources on 2 nodes)')
  t.is(waiting(host), 'no suitable node (host-mode port already in use on 2 nodes)')
  t.is(waiting(limited), 'no suitable node (max replicas per node limit exceed)')
  swarm.addNode('n2')
  await swarm.settle(600)
  t.is(swarm.running(id).length, 3)
  t.is(swarm.running(host).length, 3)
  t.is(swarm.running(limited).length, 3)
})

test('platform names of image and machine are the same by their aliases', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(1)
  const on = (Architecture: string): Partial<ServiceSpec['TaskTemplate']> => ({
    Placement: { Platforms: [{ Architecture, OS: 'linux' }] },
  })
  const amd = swarm.createService(withTemplate(serviceSpec('amd'), on('amd64')))
  const arm = swarm.createService(withTemplate(serviceSpec('arm'), on('arm64')))
  await swarm.settle()
  t.is(swarm.running(amd).length, 1)
  t.is(swarm.tasks(arm)[0]?.status.err, 'no suitable node (unsupported platform on 1 node)')
})

test('spread preferences even out over label values', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(4)
  const zones = { n0: 'a', n1: 'a', n2: 'a', n3: 'b' }
  for (const [id, name] of Object.entries(zones)) {
    swarm.updateNode(id, (node) => ({ spec: { ...node.spec, Labels: { zone: name } } }))
  }
  const Preferences = [{ Spread: { SpreadDescriptor: 'node.labels.zone' } }]
  const spread = { Placement: { Preferences } }
  const id = swarm.createService(withTemplate(serviceSpec('web', 6), spread))
  await swarm.settle()
  t.deepEqual(perNode(swarm.running(id)), { n0: 1, n1: 1, n2: 1, n3: 3 })
})

test('a node where a service keeps failing becomes the last choice', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(2)
  swarm.lazy.add('n0')
  swarm.behaviours.set('bad:1', 'reject')
  const policy = { RestartPolicy: { Delay: 0 } }
  const id = swarm.createService(withTemplate(image(serviceSpec('web'), 'bad:1'), policy))
  await swarm.settle(2_000)
  const counts = perNode(swarm.tasks(id))
  t.true((counts['n0'] ?? 0) > 0 && (counts['n1'] ?? 0) > 0, JSON.stringify(counts))
})
