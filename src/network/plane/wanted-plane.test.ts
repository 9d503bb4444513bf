/** The pure parts: names, the wanted plane, its elements; and the loop that applies it. */
import test from 'ava'
import * as fc from 'fast-check'
import { silentLogger } from '../../base/log.ts'
import { ManualClock } from '../../control/testing/manual-clock.ts'
import { Store } from '../../store/store.ts'
import type { Network, Node, Task } from '../../store/objects.ts'
import {
  clusterDraft,
  nodeDraft,
  serviceDraft,
  serviceSpec,
  taskDraft,
  writeTo,
} from '../../store/testing/fixtures.ts'
import type { Action, Draft } from '../../store/transaction.ts'
import { addressText } from '../netlink/address.ts'
import { conflictsOf, withoutRanges } from './conflicts.ts'
import { ipv6Of, ipv6PrefixOf, ipv6RangeOf } from '../../store/ipv6.ts'
import { markOfAddress, markOfPort, parseRange, planeNames } from './names.ts'
import {
  PLANE_SETS,
  elementText,
  encodeElement,
  memberElements,
  planeElements,
} from './plane-elements.ts'
import { PLANE_RETRY_MS, PLANE_VERIFY_MS, PlaneReconciler } from './plane-reconciler.ts'
import type { PlaneReport } from './plane.ts'
import { skeletonOf } from './skeleton.ts'
import { wantedPlane } from './wanted-plane.ts'
import type { WantedPlane } from './wanted-plane.ts'

/** A store with a writer; this node is `here`. */
class Scene {
  readonly store = new Store()

  constructor() {
    this.write({ type: 'create', table: 'cluster', object: clusterDraft() })
    this.node('here', 1)
  }

  write(...actions: Action[]): void {
    writeTo(this.store, ...actions)
  }

  node(id: string, number: number, fields: Partial<Draft<Node>> = {}): void {
    const subnet = `10.32.${number}.0/24`
    const object = nodeDraft(id, { subnet, advertiseHost: `192.0.2.${number}`, ...fields })
    this.write({ type: 'create', table: 'nodes', object })
  }

  network(id: string, subnet: string | undefined, spec: Partial<Network['spec']> = {}): void {
    const place = subnet === undefined ? {} : { subnet }
    const object = { id, spec: { Name: id, ...spec }, ...place }
    this.write({ type: 'create', table: 'networks', object })
  }

  service(id: string, networkId: string, address: string): void {
    const endpoint = { ports: [], allocatedFor: 0, virtualAddresses: [{ networkId, address }] }
    const object = { ...serviceDraft(id, serviceSpec(id)), endpoint }
    this.write({ type: 'create', table: 'services', object })
  }

  task(id: string, on: readonly string[], fields: Partial<Draft<Task>> = {}): void {
    const networks = on.map((networkId) => ({ networkId, aliases: [] }))
    const object = taskDraft(id, { nodeId: 'here', address: '10.32.1.2', networks, ...fields })
    this.write({ type: 'create', table: 'tasks', object })
  }

  wanted(own?: readonly Task[]): WantedPlane {
    const place = own === undefined ? {} : { own }
    const wanted = wantedPlane({ store: this.store, nodeId: 'here', ...place })
    if (wanted === undefined) throw new Error('no plane')
    return wanted
  }
}

test('names and marks are those of the decision', (t) => {
  t.deepEqual(planeNames('0123456789abcdefghijklmno'), {
    bridge: 'skhijklmno',
    vxlan: 'svhijklmno',
    table: 'skein_hijklmno',
    balancerTable: 'skein_hijklmno_lb',
  })
  t.is(markOfAddress('10.96.0.2'), 0x0a60_0002)
  t.is(markOfPort(6, 8080), 0xfe06_1f90)
})

test('an IPv6 address is the cluster prefix and the IPv4 address', (t) => {
  const prefix = ipv6PrefixOf('cluster')
  t.regex(prefix, /^fd[0-9a-f]{2}:[0-9a-f]+:[0-9a-f]+::$/)
  t.is(ipv6Of('fd16:4cf1:ca83::', '10.32.1.2'), 'fd16:4cf1:ca83::a20:102')
  t.is(ipv6RangeOf('fd16:4cf1:ca83::', '10.32.1.77/24'), 'fd16:4cf1:ca83::a20:100/120')
  t.is(ipv6RangeOf('fd16:4cf1:ca83::', '0.0.0.0/0'), 'fd16:4cf1:ca83::/96')
})

test('a node without a subnet has no plane', (t) => {
  const { store } = new Scene()
  t.is(wantedPlane({ store, nodeId: 'other' }), undefined)
  t.is(wantedPlane({ store: new Store(), nodeId: 'here' }), undefined)
})

test('peers are the nodes that a tunnel can reach; for the others there is a reason', (t) => {
  const scene = new Scene()
  const { description } = nodeDraft('far')
  scene.node('far', 2, { description: { ...description, addresses: ['192.0.2.2', '2001:db8::2'] } })
  scene.node('twin', 3, { advertiseHost: '192.0.2.1' })
  scene.node('loop', 4, { advertiseHost: '127.0.0.1' })
  scene.node('named', 5, { advertiseHost: 'host.example' })
  scene.node('six', 6, { advertiseHost: '2001:db8::6' })
  const { subnet, ...fresh } = nodeDraft('fresh')
  t.is(subnet, undefined)
  scene.write({ type: 'create', table: 'nodes', object: fresh })
  const { peers, notes, vxlan, insideRanges } = scene.wanted()
  t.like(peers[0], {
    nodeId: 'far',
    subnet: '10.32.2.0/24',
    tunnelAddress: '10.32.2.0',
    underlayAddress: '192.0.2.2',
    addresses: ['192.0.2.2', '2001:db8::2'],
    mark: 0x0a20_0200,
  })
  t.is(peers.length, 1)
  t.is(vxlan.underlayAddress, '192.0.2.1')
  t.is(notes.length, 4)
  t.regex(
    notes.join('\n'),
    /loop: .*127\.0\.0\.1[^]*named: .*host\.example[^]*six: .*family[^]*twin/,
  )
  t.is(insideRanges.length, 6, 'their subnets are the cluster’s even so')
})

test('a task reaches the members of its networks, and outside unless all are internal', (t) => {
  const scene = new Scene()
  scene.node('far', 2)
  scene.network('front', '10.96.0.0/24')
  scene.network('vault', '10.97.0.0/24', { Internal: true })
  scene.network('unused', '10.98.0.0/24')
  scene.network('local', undefined, { Driver: 'bridge' })
  scene.network('wire', '192.168.7.0/24', { Driver: 'macvlan' })
  scene.service('web', 'front', '10.96.0.2')
  scene.service('hidden', 'unused', '10.98.0.2')
  scene.task('a', ['front', 'vault'])
  scene.task('b', ['vault'], { address: '10.32.1.3' })
  scene.task('c', [], { address: '10.32.1.4' })
  scene.task('d', ['local', 'wire'], { address: '10.32.1.5' })
  scene.task('e', ['none'], { address: '10.32.1.6' })
  scene.task('g', ['vault', 'bridge'], { address: '10.32.1.7' })
  scene.task('r', ['front', 'local'], { nodeId: 'far', address: '10.32.2.2' })
  scene.task('dead', ['front'], {
    nodeId: 'far',
    address: '10.32.2.3',
    status: { state: 'failed', timestamp: '', message: '' },
  })
  const { tasks, networks, virtualRanges } = scene.wanted()
  t.deepEqual(
    tasks.map(({ id, networkIds, outside }) => [id, networkIds.join(), outside]),
    [
      ['a', 'front,vault', true],
      ['b', 'vault', false],
      ['c', '', true],
      ['d', 'local', true],
      ['g', 'vault', true],
    ],
  )
  t.deepEqual(
    networks.map(({ id, members }) => [id, [...members].toSorted().join()]),
    [
      ['front', '10.32.1.2,10.32.2.2,10.96.0.2'],
      ['local', '10.32.1.5'],
      ['vault', '10.32.1.2,10.32.1.3,10.32.1.7'],
    ],
  )
  t.deepEqual(virtualRanges.toSorted(), ['10.96.0.0/24', '10.97.0.0/24', '10.98.0.0/24'])
})

test('of its own tasks a node believes itself', (t) => {
  const scene = new Scene()
  scene.network('front', '10.96.0.0/24')
  scene.task('known', ['front'])
  const known = scene.store.list('tasks')
  const [task] = known
  if (task === undefined) throw new Error('no task')
  t.deepEqual(scene.wanted([]).tasks, [])
  const next = { ...task, id: 'next', address: '10.32.1.9' }
  const { tasks, networks } = scene.wanted([next])
  t.deepEqual(
    tasks.map(({ id }) => id),
    ['next'],
  )
  t.deepEqual([...(networks[0]?.members ?? [])], ['10.32.1.9'])
})

test('elements: tasks with the same networks share a profile, ranges are merged', (t) => {
  const scene = new Scene()
  scene.node('far', 2)
  scene.network('front', '10.96.0.0/24', { EnableIPv6: true })
  scene.network('back', '10.96.1.0/24')
  scene.service('web', 'front', '10.96.0.2')
  scene.task('a', ['front', 'back'])
  scene.task('b', ['back', 'front'], { address: '10.32.1.3' })
  scene.task('c', [], { address: '10.32.1.4' })
  const four = planeElements(scene.wanted(), 'ipv4')
  t.deepEqual(four.virtual, [{ key: ['10.96.0.0-10.96.1.255'] }])
  t.deepEqual(four.inside.map(elementText), ['10.32.1.0-10.32.2.255', '10.96.0.0-10.96.1.255'])
  t.is(four.profiles.length, 2)
  t.is(new Set(four.profiles.map(({ data }) => data)).size, 1)
  t.is([...memberElements(scene.wanted(), 'ipv4')].length, 3)
  t.deepEqual(four.insiders, [])
  t.is(four.sources.length, 3)
  t.deepEqual(four.peers[0]?.data, String(0x0a20_0200))
  const six = planeElements(scene.wanted(), 'ipv6')
  t.regex(six.virtual.map(elementText).join(), /^fd\w\w:\w+:\w+::a60:0-fd\w\w:\w+:\w+::a60:1ff$/)
  const reached = [...memberElements(scene.wanted(), 'ipv6')]
  t.is(reached.length, 3, 'members of the network that has IPv6')
})

test('the order of ranges, and ranges inside others, do not matter', (t) => {
  const range = fc
    .tuple(fc.nat(2 ** 32 - 1), fc.integer({ min: 1, max: 32 }))
    .map(
      ([base, bits]) =>
        `${addressText(2, Uint8Array.of(base >>> 24, base >> 16, base >> 8, base))}/${bits}`,
    )
  fc.assert(
    fc.property(fc.array(range, { maxLength: 12 }), fc.nat(2 ** 32 - 1), (ranges, probe) => {
      const scene = new Scene()
      const wanted = { ...scene.wanted(), insideRanges: ranges }
      const merged = planeElements(wanted, 'ipv4').inside.map((element) => {
        const [first, last] = elementText(element)
          .split('-')
          .map((text) => markOfAddress(text))
        return { first: first ?? 0, last: last ?? 0 }
      })
      const isIn = merged.some(({ first, last }) => first <= probe && probe <= last)
      t.is(
        isIn,
        ranges.map(parseRange).some(({ base, last }) => base <= probe && probe <= last),
      )
      for (const [index, { last }] of merged.entries()) {
        const next = merged[index + 1]
        t.true(next === undefined || next.first > last + 1)
      }
    }),
    { numRuns: 200 },
  )
})

test('a range is two elements, and one when nothing comes after it', (t) => {
  const encode = (text: string): string[] =>
    encodeElement(PLANE_SETS.inside, { key: [text] }).map(({ key, isIntervalEnd }) => {
      return `${addressText(2, key[0] ?? new Uint8Array())}${isIntervalEnd === true ? ' end' : ''}`
    })
  t.deepEqual(encode('10.0.0.0-10.0.255.255'), ['10.0.0.0', '10.1.0.0 end'])
  t.deepEqual(encode('240.0.0.0-255.255.255.255'), ['240.0.0.0'])
})

test('rules have a version of their own in each family and for each node', (t) => {
  const versions = (['ipv4', 'ipv6'] as const).flatMap((family) =>
    ['here0000', 'there000'].map((id) => skeletonOf(planeNames(id), family).versionSet),
  )
  t.is(new Set(versions).size, 4)
  t.is(skeletonOf(planeNames('here0000'), 'ipv4').versionSet, versions[0] ?? '')
})

test('ranges that this host is in are left out, and said', (t) => {
  const scene = new Scene()
  scene.node('far', 2)
  scene.network('front', '10.96.0.0/24')
  scene.network('lan', '192.168.7.0/24')
  const wanted = scene.wanted()
  const conflicts = conflictsOf(wanted, [
    { device: 'eth0', prefix: '192.168.7.20/16' },
    { device: 'tun0', prefix: '10.32.2.9/32' },
    { device: 'eth0', prefix: 'fe80::1/64' },
    { device: 'eth1', prefix: '10.95.255.255/32' },
  ])
  t.deepEqual(conflicts.map(({ range }) => range).toSorted(), ['10.32.2.0/24', '192.168.7.0/24'])
  t.regex(conflicts.map(({ fault }) => fault).join(), /192\.168\.7\.20\/16 on eth0/)
  const safe = withoutRanges(wanted, ['10.32.2.0/24', '192.168.7.0/24'])
  t.deepEqual(safe?.virtualRanges, ['10.96.0.0/24'])
  t.deepEqual(safe?.insideRanges, ['10.32.1.0/24', '10.96.0.0/24'])
  t.deepEqual(safe?.peers, [])
  t.is(withoutRanges(wanted, []), wanted)
  t.is(withoutRanges(wanted, ['10.32.1.0/24']), undefined)
})

/** A plane that remembers what it was told. */
class RecordingPlane {
  readonly applied: WantedPlane[] = []
  forgotten = 0
  report: PlaneReport = { changes: 0, faults: [] }

  apply(wanted: WantedPlane): Promise<PlaneReport> {
    this.applied.push(wanted)
    return Promise.resolve(this.report)
  }

  forget(): void {
    this.forgotten += 1
  }
}

test('the plane follows the store, and not what only tells how tasks are', async (t) => {
  const scene = new Scene()
  const { store } = scene
  const clock = new ManualClock()
  const plane = new RecordingPlane()
  const reconciler = new PlaneReconciler(
    { store, plane, clock, log: silentLogger },
    { nodeId: 'here' },
  )
  reconciler.start()
  await reconciler.ensure()
  const before = plane.applied.length
  scene.node('far', 2)
  await reconciler.ensure()
  t.is(plane.applied.at(-1)?.peers.length, 1)
  t.true(plane.applied.length > before)
  scene.task('a', [])
  await clock.advance(1_000)
  const settled = plane.applied.length
  t.is(plane.applied.at(-1)?.tasks.length, 1)
  const [task] = store.list('tasks')
  if (task === undefined) throw new Error('no task')
  const { meta, ...rest } = task
  const status = { ...rest.status, message: 'still running' }
  scene.write({
    type: 'update',
    table: 'tasks',
    object: { ...rest, status },
    version: meta.version,
  })
  await clock.advance(1_000)
  t.is(plane.applied.length, settled)
  await clock.advance(PLANE_VERIFY_MS)
  t.is(plane.forgotten, 1)
  t.is(plane.applied.length, settled + 1)

  plane.report = { changes: 0, faults: ['nft: is gone'] }
  await reconciler.ensure()
  t.deepEqual(reconciler.faults, ['nft: is gone'])
  plane.report = { changes: 1, faults: [] }
  await clock.advance(PLANE_RETRY_MS + 1_000)
  t.deepEqual(reconciler.faults, [])
  await reconciler.stop()
  const stopped = plane.applied.length
  scene.node('late', 3)
  await clock.advance(PLANE_VERIFY_MS)
  t.is(plane.applied.length, stopped)
})

test('the plane has an entry when the kernel has, faults included, and what does not matter at once', async (t) => {
  const scene = new Scene()
  const { store } = scene
  const clock = new ManualClock()
  const plane = new RecordingPlane()
  const reconciler = new PlaneReconciler(
    { store, plane, clock, log: silentLogger },
    { nodeId: 'here' },
  )
  t.is(reconciler.progress.index, 0)
  reconciler.start()
  await reconciler.ensure()
  t.is(reconciler.progress.index, store.index)
  const before = store.index
  const held = Promise.withResolvers<PlaneReport>()
  const apply = plane.apply.bind(plane)
  plane.apply = (wanted) => {
    void apply(wanted)
    return held.promise
  }
  scene.node('far', 2)
  await clock.advance(100)
  t.is(reconciler.progress.index, before)
  held.resolve({ changes: 0, faults: ['no device'] })
  await clock.advance(0)
  t.is(reconciler.progress.index, store.index)
  store.skip(store.index + 1)
  t.is(reconciler.progress.index, store.index)
  await reconciler.stop()
})
