/** Networks as the leader allocates them, on the real store and planner. */
import test from 'ava'
import { seededRandom } from '../base/random.ts'
import type { Network, Service, Task } from '../store/objects.ts'
import type { IpamConfig, NetworkSpec, PortConfig, ServiceSpec } from '../store/spec.ts'
import { Store } from '../store/store.ts'
import { clusterDraft, nodeDraft, serviceSpec, writeTo } from '../store/testing/fixtures.ts'
import type { Action } from '../store/transaction.ts'
import { createService, removeService, updateService } from './commands.ts'
import { createNetwork, pruneNetworks, removeNetwork } from './network-commands.ts'
import { networkWarnings } from './network-warnings.ts'
import { NodePlanner } from './node-planner.ts'
import { Plan } from './plan.ts'
import { planPass } from './planner.ts'
import { Sightings } from './sightings.ts'
import { FakeSwarm } from './testing/fake-swarm.ts'

const AT = '2026-01-01T00:00:00Z'

/** A store of one node and the leader's planner over it. */
class Scene {
  readonly store = new Store()
  readonly #random = seededRandom(1)
  readonly #sightings = new Sightings(0)
  readonly #nodes = new NodePlanner({ lastReachableMs: () => 0 }, { selfId: 'n1' })

  constructor() {
    this.write(
      { type: 'create', table: 'cluster', object: clusterDraft({ addressPools: ['10.0.0.0/16'] }) },
      { type: 'create', table: 'nodes', object: nodeDraft('n1') },
    )
    this.plan()
  }

  write(...actions: readonly Action[]): void {
    writeTo(this.store, ...actions)
  }

  plan(): void {
    const plan = new Plan(this.store, { nowMs: 0, at: AT, random: this.#random })
    const services = new Set(this.store.list('services').map((service) => service.id))
    const dirty = { services, nodes: new Set(['n1']) }
    planPass(plan, dirty, { nodes: this.#nodes, sightings: this.#sightings })
    const actions = plan.actions()
    if (actions.length > 0) this.write(...actions)
  }

  network(spec: NetworkSpec): Network {
    this.write(...createNetwork(this.store, { id: spec.Name, spec }))
    this.plan()
    return this.store.get('networks', spec.Name) ?? fail(spec.Name)
  }

  service(name: string, fields: Partial<ServiceSpec>): Service {
    const spec = { ...serviceSpec(name), ...fields }
    this.write(...createService(this.store, { id: name, spec }))
    this.plan()
    return this.store.get('services', name) ?? fail(name)
  }

  tasks(serviceId: string): Task[] {
    return this.store.find('tasks', 'serviceId', serviceId)
  }
}

function fail(what: string): never {
  throw new Error(`${what}: is missing`)
}

/** A spec on these networks. */
function on(...targets: string[]): Partial<ServiceSpec> {
  const { TaskTemplate: template } = serviceSpec('x')
  return { TaskTemplate: { ...template, Networks: targets.map((Target) => ({ Target })) } }
}

test('a network gets a range of its own, and its services an address in it', (t) => {
  const scene = new Scene()
  const front = scene.network({ Name: 'front' })
  const back = scene.network({ Name: 'back' })
  const subnet = scene.store.get('nodes', 'n1')?.subnet
  t.is(new Set([front.subnet, back.subnet, subnet]).size, 3)
  t.like(front, { subnet: '10.0.1.0/24', gateway: '10.0.1.1' })
  const web = scene.service('web', on('front', 'back'))
  const addresses = web.endpoint?.virtualAddresses
  t.deepEqual(addresses, [
    { networkId: 'front', address: '10.0.1.2' },
    { networkId: 'back', address: '10.0.2.2' },
  ])
  const [task] = scene.tasks('web')
  t.deepEqual(
    task?.networks?.map((one) => one.networkId),
    ['front', 'back'],
  )
  t.like(scene.service('api', on('front')).endpoint?.virtualAddresses?.[0], { address: '10.0.1.3' })
})

test('an address stays with its service through updates and is free when it is gone', (t) => {
  const scene = new Scene()
  scene.network({ Name: 'front' })
  const web = scene.service('web', on('front'))
  scene.service('api', on('front'))
  const spec = { ...web.spec, Labels: { a: 'b' } }
  const { version } = web.meta
  scene.write(...updateService(scene.store, { id: 'web', version, spec, at: AT }))
  scene.plan()
  const after = scene.store.get('services', 'web')
  t.deepEqual(after?.endpoint?.virtualAddresses, web.endpoint?.virtualAddresses)
  scene.write(...removeService(scene.store, 'web'))
  const next = scene.service('next', on('front'))
  t.deepEqual(next.endpoint?.virtualAddresses, web.endpoint?.virtualAddresses)
})

test('with dnsrr a service has no address; moved to another network its tasks are replaced', (t) => {
  const scene = new Scene()
  scene.network({ Name: 'front' })
  scene.network({ Name: 'back' })
  const web = scene.service('web', { ...on('front'), EndpointSpec: { Mode: 'dnsrr' } })
  t.is(web.endpoint?.virtualAddresses, undefined)
  const [before] = scene.tasks('web')
  const spec = { ...web.spec, ...on('back') }
  const { version } = web.meta
  scene.write(...updateService(scene.store, { id: 'web', version, spec, at: AT }))
  scene.plan()
  const wanted = scene.tasks('web').filter((task) => task.id !== before?.id)
  t.deepEqual(
    wanted.map((task) => task.networks?.map((one) => one.networkId)),
    [['back']],
  )
})

test('tasks on a macvlan have addresses of their own in its subnet', (t) => {
  const scene = new Scene()
  const network = scene.network({
    Name: 'lan',
    Driver: 'macvlan',
    Options: { parent: 'eth0' },
    IPAM: { Config: [{ Subnet: '192.168.7.0/29', Gateway: '192.168.7.6' }] },
  })
  t.like(network, { subnet: '192.168.7.0/29', gateway: '192.168.7.6' })
  const web = scene.service('web', { ...on('lan'), Mode: { Replicated: { Replicas: 6 } } })
  t.is(web.endpoint?.virtualAddresses, undefined)
  const addresses = scene.tasks('web').map((task) => task.networks?.[0]?.address)
  const given = addresses.filter((address) => address !== undefined)
  t.is(new Set(given).size, given.length)
  t.is(given.length, 4, 'six places, one is the gateway, one the first address')
  const waiting = scene.tasks('web').filter((task) => task.nodeId === '')
  t.deepEqual(
    waiting.map(({ status }) => status.err),
    Array.from({ length: 2 }, () => 'network lan: no free address'),
  )
})

test('addresses come from the range that the user named, but those that are spoken for', (t) => {
  const scene = new Scene()
  const reserved = { Gateway: '172.30.0.17', AuxiliaryAddresses: { printer: '172.30.0.18' } }
  const range = { Subnet: '172.30.0.0/24', IPRange: '172.30.0.16/30', ...reserved }
  scene.network({ Name: 'front', IPAM: { Config: [range] } })
  const addresses = ['a', 'b', 'c'].map((name) => {
    return scene.service(name, on('front')).endpoint?.virtualAddresses?.[0]?.address
  })
  t.deepEqual(addresses, ['172.30.0.16', '172.30.0.19', undefined])
})

test('services that wait for an address are written once, and have the next one that is free', async (t) => {
  const swarm = new FakeSwarm()
  await swarm.begin(1)
  const spec = { Name: 'tiny', IPAM: { Config: [{ Subnet: '172.30.7.0/29' }] } }
  swarm.write(createNetwork(swarm.store, { id: 'tiny', spec }))
  const ids: string[] = []
  for (const name of ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']) {
    ids.push(swarm.createService({ ...serviceSpec(name), ...on('tiny') }))
    await swarm.settle()
  }
  const waiting = (): (string | undefined)[] =>
    ids
      .filter((id) => swarm.store.get('services', id) !== undefined)
      .flatMap((id) => {
        const [task] = swarm.store.find('tasks', 'serviceId', id)
        return task?.nodeId === '' ? [task.status.err] : []
      })
  t.deepEqual(
    waiting(),
    Array.from({ length: 3 }, () => 'network tiny: no free address'),
  )
  const before = swarm.controlTransactions
  await swarm.settle(5_000)
  t.is(swarm.controlTransactions, before, 'nothing changed, so nothing is written')

  swarm.write(removeService(swarm.store, ids[0] ?? ''))
  await swarm.settle()
  t.is(waiting().length, 2, 'the removed one made room')
  swarm.updateService(ids[1] ?? '', (own) => ({ ...own, ...on() }))
  await swarm.settle()
  t.is(waiting().length, 1, 'and so did the one that left the network')
})

test("tasks on the host's network, or on none, hold no address of the swarm's", (t) => {
  const scene = new Scene()
  for (const name of ['host', 'none', 'bridge']) scene.service(name, on(name))
  const addresses = ['host', 'none', 'bridge'].map((name) => scene.tasks(name)[0]?.address)
  t.deepEqual(addresses, [undefined, undefined, '10.0.0.2'])
})

test('a network in use stays, one that clashes is refused, and so is what nobody knows', (t) => {
  const scene = new Scene()
  const front = scene.network({ Name: 'front' })
  scene.service('web', on('front'))
  const { store } = scene
  t.throws(() => removeNetwork(store, front), { message: /in use by service web/ })
  scene.service('db', on('front'))
  t.throws(() => removeNetwork(store, front), { message: /service db \(db\), service web \(web\)/ })
  t.deepEqual(pruneNetworks(store, [front]), [])
  const idle = scene.network({ Name: 'idle' })
  t.deepEqual(pruneNetworks(store, [front, idle]), [idle])
  const refused = (spec: NetworkSpec, message: RegExp): void => {
    t.throws(() => createNetwork(store, { id: 'new', spec }), { message })
  }
  const subnet = (text: string): NetworkSpec => ({
    Name: 'new',
    IPAM: { Config: [{ Subnet: text }] },
  })
  refused({ Name: 'front' }, /already exists/)
  refused({ Name: 'my net' }, /invalid name "my net"/)
  refused({ Name: 'host' }, /predefined/)
  refused({ Name: 'new', Driver: 'carrier-pigeon' }, /unknown driver/)
  refused({ Name: 'new', Driver: 'macvlan' }, /option parent/)
  refused({ Name: 'new', Options: { 'com.docker.network.driver.mtu': '12' } }, /MTU/)
  refused({ Name: 'new', Options: { encrypted: '' } }, /overlay has no option "encrypted"/)
  const lan = { Name: 'new', Driver: 'macvlan', IPAM: { Config: [{ Subnet: '192.168.7.0/24' }] } }
  const parent = 'eth0'
  refused({ ...lan, Options: { parent, macvlan_mode: 'sideways' } }, /is none of bridge, private/)
  refused({ ...lan, Options: { parent }, Internal: true }, /cannot be internal/)
  const inside = (fields: IpamConfig): NetworkSpec => ({
    Name: 'new',
    IPAM: { Config: [{ Subnet: '172.30.0.0/24', ...fields }] },
  })
  refused(inside({ Gateway: '172.31.0.1' }), /gateway 172.31.0.1 is not in 172.30.0.0.24/)
  refused(inside({ IPRange: '172.30.1.0/25' }), /ip-range/)
  refused(inside({ IPRange: '172.30.0.0/16' }), /ip-range/)
  refused(inside({ AuxiliaryAddresses: { a: '172.30.9.9' } }), /aux-address a=172.30.9.9/)
  refused({ Name: 'new', IPAM: { Config: [{ Gateway: '172.30.0.1' }] } }, /need a subnet/)
  refused({ ...subnet('172.30.0.0/24'), Driver: 'bridge' }, /addresses of their node/)
  refused(subnet('10.0.200.0/24'), /overlaps/)
  refused(subnet('fd00::/64'), /invalid subnet fd00::\/64: IPv6 addresses follow/)
  refused(subnet('172.30.0.0/30'), /invalid subnet/)
  t.notThrows(() => createNetwork(store, { id: 'new', spec: subnet('172.30.0.0/24') }))
  const create = (...targets: string[]): void => {
    const spec = { ...serviceSpec('x'), ...on(...targets) }
    createService(store, { id: 'x', spec })
  }
  t.throws(() => create('nowhere'), { message: 'network nowhere not found', code: 'NOT_FOUND' })
  t.throws(() => create('ingress'), { message: /cannot be explicitly attached/ })
  t.throws(() => create('host', 'front'), { message: /cannot be combined/ })
  t.notThrows(() => create('host'))
})

test('labels that nobody could obey are refused, or replicas would misread their clients', (t) => {
  const scene = new Scene()
  const create = (label: string, value: string): void => {
    const spec = { ...serviceSpec('web'), Labels: { [label]: value } }
    createService(scene.store, { id: 'web', spec })
  }
  const refused = (label: string, value: string, message: RegExp): void => {
    t.throws(() => create(label, value), { code: 'INVALID_ARGUMENT', message })
  }
  refused('skein.proxy-protocol', 'v1', /"web": label skein.proxy-protocol "v1" is not "v2"/)
  refused('skein.affinity', 'cookie', /label skein.affinity "cookie" is not "client-ip"/)
  refused('skein.scheduler', 'best', /label skein.scheduler "best" is not one of "rr", "wrr"/)
  t.notThrows(() => create('skein.proxy-protocol', 'v2'))
  t.notThrows(() => create('skein.affinity', 'client-ip'))
  t.notThrows(() => create('skein.scheduler', 'wlc'))
  t.notThrows(() => create('somebody.else', 'anything'))
})

test("what replicas with their node's stack, or with none, cannot answer is refused", (t) => {
  const scene = new Scene()
  const create = (network: string, port: PortConfig): void => {
    const spec = { ...serviceSpec('web'), ...on(network), EndpointSpec: { Ports: [port] } }
    createService(scene.store, { id: 'web', spec })
  }
  const mesh = { TargetPort: 80, PublishedPort: 8080 }
  const own = { TargetPort: 80, PublishedPort: 80, PublishMode: 'host' } as const
  t.throws(() => create('host', mesh), { message: /port 80 .* on network host a replica listens/ })
  t.throws(() => create('host', { ...mesh, PublishMode: 'host' }), { message: /network host/ })
  t.throws(() => create('none', own), { message: /on network none nothing reaches a replica/ })
  t.notThrows(() => create('host', own), 'what it does anyway; its port is taken for others')
})

test("ranges that mean something else, or hold a node's address, are refused", (t) => {
  const scene = new Scene()
  const node = nodeDraft('n2', { advertiseHost: '192.168.7.20' })
  const description = {
    ...node.description,
    hostname: 'shop',
    addresses: ['172.20.0.9', 'fd00::1'],
  }
  scene.write({ type: 'create', table: 'nodes', object: { ...node, description } })
  const create = (range: string, fields: Partial<NetworkSpec> = {}): void => {
    const spec = { Name: 'new', IPAM: { Config: [{ Subnet: range }] }, ...fields }
    createNetwork(scene.store, { id: 'new', spec })
  }
  const refused = (range: string, message: RegExp): void => {
    t.throws(() => create(range), { code: 'INVALID_ARGUMENT', message })
  }
  refused('127.0.5.0/24', /subnet 127.0.5.0.24 is in 127.0.0.0.8, which is loopback/)
  refused('169.254.0.0/16', /link-local/)
  refused('224.0.1.0/24', /multicast/)
  refused('250.0.0.0/8', /reserved/)
  refused('172.20.0.0/16', /subnet 172.20.0.0.16 holds 172.20.0.9, an address of node shop/)
  refused('192.168.7.16/28', /holds 192.168.7.20/)
  t.notThrows(() => create('192.168.7.0/28'))
  const parent = { Driver: 'macvlan', Options: { parent: 'eth0' } }
  t.notThrows(() => create('192.168.7.0/24', parent), "a parent's network holds its nodes")
})

test('who wants networks on nodes that have no plane is told of them', (t) => {
  const scene = new Scene()
  scene.network({ Name: 'front' })
  scene.network({ Name: 'near', Driver: 'bridge' })
  const warned = (fields: Partial<ServiceSpec>, constraint?: string): readonly string[] => {
    const spec = { ...serviceSpec('web'), ...fields }
    const placement = constraint === undefined ? {} : { Placement: { Constraints: [constraint] } }
    const TaskTemplate = { ...spec.TaskTemplate, ...placement }
    return networkWarnings(scene.store, { ...spec, TaskTemplate })
  }
  t.deepEqual(warned(on('front')), [], 'all nodes have one')
  const { description } = nodeDraft('n2')
  const bare = { ...description, hostname: 'board', balancer: { name: 'userspace', reason: '' } }
  const object = nodeDraft('n2', { description: bare })
  scene.write({ type: 'create', table: 'nodes', object })
  t.deepEqual(warned(on('front', 'near')), [
    'networks: tasks on board, which balance in userspace, are not on front; skein doctor says why',
  ])
  t.deepEqual(warned(on('front'), 'node.hostname!=board'), [], 'it will run none')
  t.deepEqual(warned(on('near')), [])
  t.deepEqual(warned({}), [])
})
