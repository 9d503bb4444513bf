/* Whatever users, nodes and accidents do, in any order: services converge and no invariant breaks. */
import test from 'ava'
import * as fc from 'fast-check'
import { assert } from '../base/assert.ts'
import { SwarmError } from '../base/errors.ts'
import type { Service } from '../store/objects.ts'
import { serviceSpec, taskSpec } from '../store/testing/fixtures.ts'
import { meetsConstraintTexts } from './constraints.ts'
import { isUsable } from './slots.ts'
import { FakeSwarm } from './testing/fake-swarm.ts'
import { image, slots } from './testing/specs.ts'

/** Something that users, nodes or accidents do. */
type Event =
  | { readonly type: 'create'; readonly replicas: number; readonly port: number }
  | { readonly type: 'scale'; readonly which: number; readonly replicas: number }
  | { readonly type: 'image'; readonly which: number; readonly version: number }
  | { readonly type: 'remove'; readonly which: number }
  | { readonly type: 'node'; readonly which: number; readonly do: 'drain' | 'pause' | 'active' }
  | { readonly type: 'label'; readonly which: number; readonly disk: 'ssd' | 'hdd' }
  | { readonly type: 'silence'; readonly which: number; readonly silent: boolean }
  | { readonly type: 'kill'; readonly which: number }
  | { readonly type: 'lazy'; readonly which: number }
  | { readonly type: 'leader' }
  | { readonly type: 'refuse' }
  | { readonly type: 'loseAnswer' }
  | { readonly type: 'wait'; readonly forMs: number }

const which = fc.nat(20)
const anyEvent: fc.Arbitrary<Event> = fc.oneof(
  fc.record({
    type: fc.constant('create' as const),
    replicas: fc.nat(8),
    port: fc.constantFrom(0, 0, 8080, 8081),
  }),
  fc.record({ type: fc.constant('scale' as const), which, replicas: fc.nat(10) }),
  fc.record({
    type: fc.constant('image' as const),
    which,
    version: fc.integer({ min: 1, max: 3 }),
  }),
  fc.record({ type: fc.constant('remove' as const), which }),
  fc.record({
    type: fc.constant('node' as const),
    which,
    do: fc.constantFrom('drain' as const, 'pause' as const, 'active' as const),
  }),
  fc.record({
    type: fc.constant('label' as const),
    which,
    disk: fc.constantFrom('ssd' as const, 'hdd' as const),
  }),
  fc.record({ type: fc.constant('silence' as const), which, silent: fc.boolean() }),
  fc.record({ type: fc.constant('kill' as const), which }),
  fc.record({ type: fc.constant('lazy' as const), which }),
  fc.record({ type: fc.constant('leader' as const) }),
  fc.record({ type: fc.constant('refuse' as const) }),
  fc.record({ type: fc.constant('loseAnswer' as const) }),
  fc.record({
    type: fc.constant('wait' as const),
    forMs: fc.constantFrom(1, 20, 300, 3_000, 12_000),
  }),
)

function pick<T>(list: readonly T[], index: number): T | undefined {
  return list.length === 0 ? undefined : list[index % list.length]
}

async function happen(swarm: FakeSwarm, event: Event): Promise<void> {
  switch (event.type) {
    case 'create':
    case 'scale':
    case 'image':
    case 'remove':
      onUserEvent(swarm, event)
      return
    case 'node':
    case 'label':
    case 'silence':
    case 'lazy':
    case 'kill':
      onNodeEvent(swarm, event)
      return
    case 'leader':
      await swarm.depose()
      swarm.control.start()
      return
    case 'refuse':
      swarm.refusals.push(new SwarmError('OUT_OF_SEQUENCE', 'overtaken'))
      return
    case 'loseAnswer':
      swarm.lostAnswers += 1
      return
    case 'wait':
      await swarm.settle(event.forMs)
      return
    default:
      event satisfies never
  }
}

function onUserEvent(
  swarm: FakeSwarm,
  event: Extract<Event, { readonly type: 'create' | 'scale' | 'image' | 'remove' }>,
): void {
  const services = swarm.store.list('services')
  if (event.type === 'create') {
    if (services.length < 5) createUnchecked(swarm, event)
    return
  }
  const service = pick(services, event.which)
  if (service === undefined) return
  if (event.type === 'remove') {
    swarm.write([{ type: 'remove', table: 'services', id: service.id }])
    return
  }
  swarm.updateService(service.id, (spec) =>
    event.type === 'scale'
      ? { ...spec, Mode: { Replicated: { Replicas: event.replicas } } }
      : image(spec, `web:${event.version}`),
  )
}

/** As two creations are that do not see each other: their ports may conflict. */
function createUnchecked(
  swarm: FakeSwarm,
  event: { readonly replicas: number; readonly port: number },
): void {
  const Ports = [{ TargetPort: 80, PublishedPort: event.port }]
  const spec = serviceSpec(`s${swarm.store.index}`, event.replicas, {
    EndpointSpec: { Ports },
    UpdateConfig: { Parallelism: 2, Monitor: 100 * 1_000_000 },
    TaskTemplate: taskSpec({ Placement: { Constraints: ['node.labels.disk!=hdd'] } }),
  })
  const object = { id: spec.Name, spec, specVersion: 0 }
  swarm.write([{ type: 'create', table: 'services', object }])
}

function onNodeEvent(
  swarm: FakeSwarm,
  event: Extract<Event, { readonly type: 'node' | 'label' | 'silence' | 'lazy' | 'kill' }>,
): void {
  const id = pick(swarm.store.list('nodes'), event.which)?.id ?? ''
  if (event.type === 'node') swarm.setAvailability(id, event.do)
  else if (event.type === 'lazy') swarm.lazy.add(id)
  else if (event.type === 'kill') killOne(swarm, event.which)
  else if (event.type === 'silence') {
    if (event.silent && id !== 'n0') swarm.silent.add(id)
    else swarm.silent.delete(id)
  } else {
    const Labels = { disk: event.disk }
    swarm.updateNode(id, (node) => ({ spec: { ...node.spec, Labels } }))
  }
}

function killOne(swarm: FakeSwarm, index: number): void {
  const running = swarm.store.list('tasks').filter((task) => task.status.state === 'running')
  const task = pick(running, index)
  if (task !== undefined && !swarm.silent.has(task.nodeId)) swarm.end(task, 'failed')
}

test('whatever happens, services converge and no invariant breaks on the way', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(anyEvent, { minLength: 3, maxLength: 18 }),
      fc.integer({ min: 1, max: 1_000_000 }),
      fc.constantFrom(0, 7, 35),
      async (events, seed, latencyMs) => {
        const swarm = new FakeSwarm(seed, 27)
        swarm.latencyMs = latencyMs
        await swarm.begin(3)
        for (const event of events) {
          await happen(swarm, event)
          await swarm.settle(20)
        }
        swarm.silent.clear()
        swarm.lazy.clear()
        for (const node of swarm.store.list('nodes')) swarm.setAvailability(node.id, 'active')
        for (const { id } of swarm.store.list('nodes')) {
          swarm.updateNode(id, (node) => ({ spec: { ...node.spec, Labels: { disk: 'ssd' } } }))
        }
        await swarm.settle(45_000)
        assertConverged(swarm)
        await swarm.depose()
        assert(swarm.clock.pending === 0, 'no timer is left')
      },
    ),
    { numRuns: 60, ...replaySeed() },
  )
  t.pass()
})

/** Every service has its replicas, in slots of their own, on nodes that fit. */
function assertConverged(swarm: FakeSwarm): void {
  const { store } = swarm
  for (const service of store.list('services')) {
    if (isBlocked(swarm, service)) continue
    const replicas = service.spec.Mode?.Replicated?.Replicas ?? 1
    const running = swarm.running(service.id)
    assert(running.length === replicas, `${service.id}: ${running.length} of ${replicas} run`)
    assert(new Set(slots(running)).size === replicas, `${service.id}: a slot has two tasks`)
    for (const task of running) {
      const node = store.get('nodes', task.nodeId)
      const fits =
        node !== undefined &&
        isUsable(node) &&
        meetsConstraintTexts(service.spec.TaskTemplate.Placement?.Constraints, node)
      assert(fits, `${task.id}: runs on an unfit node`)
    }
  }
  const orphans = store.list('tasks').filter((task) => !store.get('services', task.serviceId))
  assert(orphans.length === 0, 'tasks of removed services are gone')
}

/** Whether another service has the port that this one asks for. */
function isBlocked(swarm: FakeSwarm, service: Service): boolean {
  const asked = service.spec.EndpointSpec?.Ports?.[0]?.PublishedPort ?? 0
  const others = swarm.store.list('services').filter((other) => other.id !== service.id)
  const taken = others.flatMap((other) => other.endpoint?.ports ?? [])
  return asked !== 0 && taken.some((port) => port.publishedPort === asked)
}

function replaySeed(): { readonly seed?: number } {
  const seed = process.env['SKEIN_TEST_SEED']
  return seed === undefined ? {} : { seed: Number(seed) }
}
