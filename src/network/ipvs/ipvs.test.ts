/** The pure parts, and the marks against this machine's kernel; the table is proven in guests. */
import test from 'ava'
import * as fc from 'fast-check'
import { kernelTest } from '../netlink/testing/sandbox.ts'
import { SCHEDULERS } from '../../store/service-labels.ts'
import type { Backend, VirtualServer } from '../ports.ts'
import { NftMarks } from './nft-marks.ts'
import type { PacketMark } from './placement.ts'
import { markOf, placementOf } from './placement.ts'
import { schedulerFor } from './schedulers.ts'
import { serviceDifference, tableDifference, tableOf, tableService } from './table.ts'
import type { TableOperation, TableService } from './table.ts'
import { TimeSlices } from '../time-slices.ts'
import { changeTo } from '../server-change.ts'
import { WantedPlacements } from './wanted-placements.ts'
import type { PlacementChange } from './wanted-placements.ts'

function backend(last: number, weight = 1, port = 8_080): Backend {
  const taskId = `t${last}`
  return { taskId, nodeId: 'n', local: true, address: `10.32.0.${last}`, port, weight }
}

function server(more: Partial<VirtualServer> = {}): VirtualServer {
  const backends = [backend(1), backend(2)]
  return { id: 's/tcp', protocol: 'tcp', address: '0.0.0.0', port: 80, backends, ...more }
}

/** Services as a table has them, after the operations. */
function played(current: readonly TableService[], operations: readonly TableOperation[]): unknown {
  const services = new Map(
    current.map((each) => [
      JSON.stringify(each.key),
      { ...each, destinations: new Map(each.destinations) },
    ]),
  )
  for (const operation of operations) {
    const key = JSON.stringify(operation.service.key)
    const there = services.get(key)
    if (operation.type === 'newService') {
      if (there !== undefined) throw new Error('EEXIST')
      services.set(key, { ...operation.service, destinations: new Map() })
      continue
    }
    if (there === undefined) throw new Error('ESRCH')
    if ('destination' in operation) playDestination(there.destinations, operation)
    else if (operation.type === 'deleteService') services.delete(key)
    else services.set(key, { ...there, options: operation.service.options })
  }
  return services
}

/** Entries of a map, in the order of their text. */
function inOrder(map: ReadonlyMap<unknown, unknown>): unknown[] {
  return [...map].toSorted((a, b) => String(a[0]).localeCompare(String(b[0])))
}

function playDestination(
  destinations: Map<string, unknown>,
  operation: Exclude<TableOperation, { type: 'newService' | 'setService' | 'deleteService' }>,
): void {
  const text = `${operation.destination.key.address}:${operation.destination.key.port}`
  if ((operation.type === 'newDestination') === destinations.has(text))
    throw new Error('EEXIST or ENOENT')
  if (operation.type === 'deleteDestination') destinations.delete(text)
  else destinations.set(text, operation.destination)
}

const services = fc.uniqueArray(
  fc.record({
    mark: fc.integer({ min: 1, max: 4 }),
    scheduler: fc.constantFrom('rr', 'wrr'),
    backends: fc.uniqueArray(
      fc.record({ last: fc.integer({ min: 1, max: 4 }), weight: fc.nat(2) }),
      {
        selector: ({ last }) => last,
      },
    ),
  }),
  { selector: ({ mark }) => mark },
)

test('the operations lead from any table to any other, and nothing is done twice', (t) => {
  const build = (list: typeof services extends fc.Arbitrary<infer T> ? T : never): TableService[] =>
    list.map(({ mark, scheduler, backends }) =>
      tableService(
        { type: 'mark', mark, family: 'ipv4' },
        { scheduler, onePacket: false, schedulerFallback: false, schedulerPort: false },
        backends.map(({ last, weight }) => ({
          key: { address: `10.0.0.${last}`, port: 0 },
          options: { forwarding: 'masquerade', weight, upperThreshold: 0, lowerThreshold: 0 },
        })),
      ),
    )
  fc.assert(
    fc.property(services, services, (from, to) => {
      const [current, wanted] = [build(from), build(to)]
      const operations = tableDifference(tableOf(current), tableOf(wanted))
      const sorted = (value: unknown): unknown =>
        JSON.stringify(value, (_key, each: unknown) => (each instanceof Map ? inOrder(each) : each))
      t.is(sorted(played(current, operations)), sorted(played(wanted, [])))
      t.deepEqual(tableDifference(tableOf(wanted), tableOf(wanted)), [])
    }),
  )
})

test('what comes is added before what goes is deleted', (t) => {
  const before = placementOf(server({ backends: [backend(1)] })).service
  const after = placementOf(server({ backends: [backend(2)] })).service
  const types = serviceDifference(before, after).map(({ type }) => type)
  t.deepEqual(types, ['newDestination', 'deleteDestination'])
})

test('marks are the address of a virtual server, and protocol and port of a published one', (t) => {
  t.is(markOf(server({ protocol: 'any', address: '10.96.0.2', port: 0 })), 0x0a60_0002)
  t.is(markOf(server()), 0xfe06_0050)
  t.is(markOf(server({ protocol: 'udp', port: 53 })), 0xfe11_0035)
  t.is(markOf(server({ protocol: 'sctp', port: 65_535 })), 0xfe84_ffff)
})

test('a server of IPv6 is a service of that family, and no mark is one of both families', (t) => {
  const backends = [{ ...backend(1, 1, 0), address: 'fd12:3456:789a::a20:1' }]
  const six = server({ protocol: 'any', address: 'fd12:3456:789a::a60:2', port: 0, backends })
  const { mark, service, marks } = placementOf(six)
  t.is(mark, 0x8a60_0002)
  t.deepEqual(service.key, { type: 'mark', mark, family: 'ipv6' })
  t.deepEqual([...service.destinations.keys()], ['[fd12:3456:789a::a20:1]:0'])
  t.deepEqual(marks, [{ mark, packets: { type: 'address', address: 'fd12:3456:789a::a60:2' } }])
  const port = server({ address: '::', backends: backends.map((each) => ({ ...each, port: 80 })) })
  t.is(markOf(port), 0xfc06_0050)
  t.deepEqual(placementOf(port).marks, [
    { mark: 0xfc06_0050, packets: { type: 'port', family: 'ipv6', protocol: 'tcp', port: 80 } },
  ])
})

test('packets to a port where nobody takes new connections get no mark', (t) => {
  t.deepEqual(placementOf(server({ backends: [] })).marks, [])
  t.deepEqual(placementOf(server({ backends: [backend(1, 0)] })).marks, [])
  t.is(placementOf(server({ backends: [backend(1, 0), backend(2)] })).marks.length, 1)
  const virtual = { protocol: 'any', address: '10.96.0.2', port: 0, backends: [] } as const
  t.is(placementOf(server(virtual)).marks.length, 1)
})

test('flows of datagrams leave what is gone, and connections of TCP are left alone', async (t) => {
  const { wanted, update } = noPlacements()
  const set = (...lasts: readonly number[]): VirtualServer[] =>
    [server(), server({ id: 's/udp', protocol: 'udp' })].map((each) => ({
      ...each,
      backends: lasts.map((last) => backend(last)),
    }))
  t.deepEqual((await update(set(1, 2))).dropped, [])
  const frontend = { kind: 'port', family: 'ipv4', protocol: 'udp', port: 80 } as const
  const target = { address: '10.32.0.1', port: 8_080 }
  t.deepEqual((await update(set(2))).dropped, [{ frontend, target, why: 'draining' }])
  const { dropped } = await wanted.change({ set: [], removed: ['s/tcp', 's/udp'] })
  t.deepEqual(
    dropped.map((one) => one.target.address),
    ['10.32.0.2'],
  )
})

test('connections to a lost backend are forgotten once, those to a draining one are not', async (t) => {
  const { update } = noPlacements()
  const [one, other] = [backend(1), backend(2)]
  const lost = { ...other, weight: 0, lost: true }
  const virtual = { id: 's/net', protocol: 'any', address: '10.96.0.2', port: 0 } as const
  const set = (...backends: Backend[]): VirtualServer[] => [
    server({ backends }),
    server({ ...virtual, backends: backends.map((each) => ({ ...each, port: 0 })) }),
  ]
  const reasons = async (servers: VirtualServer[]): Promise<string[]> =>
    (await update(servers)).dropped.map(
      ({ frontend, target, why }) => `${frontend.kind} ${target.address}:${target.port} ${why}`,
    )
  t.deepEqual(await reasons(set(one, other)), [])
  t.deepEqual(await reasons(set(one, { ...other, weight: 0 })), [])
  const both = ['port 10.32.0.2:8080 lost', 'vip 10.32.0.2:0 lost']
  t.deepEqual(await reasons(set(one, lost)), both)
  t.deepEqual(await reasons(set({ ...one, weight: 2 }, lost)), [])
  t.deepEqual(await reasons(set(one, other)), [])
  t.deepEqual(await reasons(set(one, lost)), both)
  // Another task serves where the lost one did.
  t.deepEqual(await reasons(set({ ...other, taskId: 'new' }, lost)), ['vip 10.32.0.1:0 draining'])
})

test('flows are forgotten by addresses as the kernel writes them', async (t) => {
  const { update } = noPlacements()
  const [one, other] = ['fd12:0::a20:1', 'fd12:0::a20:2'].map((address, index) => {
    return { ...backend(index), address }
  })
  if (one === undefined || other === undefined) throw new Error('two backends')
  const vip = { protocol: 'any', address: 'fd12:0:0::a60:2', port: 0 } as const
  const set = (...backends: Backend[]): VirtualServer[] => [
    server({ ...vip, backends: backends.map((each) => ({ ...each, port: 0 })) }),
  ]
  await update(set(one, other))
  const { dropped } = await update(set(one, { ...other, weight: 0, lost: true }))
  const frontend = { kind: 'vip', address: 'fd12::a60:2' } as const
  t.deepEqual(dropped, [{ frontend, target: { address: 'fd12::a20:2', port: 0 }, why: 'lost' }])
})

test('a draining backend of a udp port is left out while another serves', (t) => {
  const weights = (more: Partial<VirtualServer>): number[] => {
    const { service } = placementOf(server(more))
    return [...service.destinations.values()]
      .map(({ options }) => options.weight)
      .toSorted((a, b) => a - b)
  }
  t.deepEqual(weights({ protocol: 'udp', backends: [backend(1, 0), backend(2)] }), [1])
  t.deepEqual(weights({ protocol: 'udp', backends: [backend(1, 0)] }), [0])
  t.deepEqual(weights({ protocol: 'tcp', backends: [backend(1, 0), backend(2)] }), [0, 1])
})

test('of two tasks with one address the one that serves counts', (t) => {
  const backends = [backend(1, 4), { ...backend(1, 0), taskId: 'old' }]
  const { service } = placementOf(server({ backends }))
  t.is(service.destinations.get('10.32.0.1:8080')?.options.weight, 4)
})

function noPlacements(): {
  readonly wanted: WantedPlacements
  readonly update: (servers: readonly VirtualServer[]) => Promise<PlacementChange>
} {
  const wanted = new WantedPlacements(new TimeSlices({ monotonicMs: () => 0 }))
  return { wanted, update: (servers) => wanted.change(changeTo(wanted.servers, servers)) }
}

test('both families of a published port are placed', async (t) => {
  const { wanted, update } = noPlacements()
  const backends = [{ ...backend(1), address: 'fd00::a20:1' }]
  await update([server(), server({ id: 's/tcp/ipv6', address: '::', backends })])
  t.deepEqual(wanted.faults(), [])
  t.deepEqual([...wanted.texts()], ['mark 4261806160 ipv4', 'mark 4228251728 ipv6'])
})

test('a backend of the other family is a fault of its server, a taken port of the second', async (t) => {
  const { wanted, update } = noPlacements()
  const bad = server({ id: 'bad', port: 81, backends: [{ ...backend(1), address: 'fd00::1' }] })
  const change = await update([server({ id: 'twice' }), bad, server()])
  const faulty = (): string[] => wanted.faults().map(({ id }) => id)
  t.deepEqual(faulty().toSorted(), ['bad', 'twice'])
  t.deepEqual([...change.services], [`mark ${markOf(server())} ipv4`])
  t.is(wanted.markOf('s/tcp'), markOf(server()))
  const after = await wanted.change({ set: [], removed: ['s/tcp', 'bad'] })
  t.deepEqual(faulty(), [])
  t.is(wanted.markOf('twice'), markOf(server()))
  t.deepEqual([...after.services], [`mark ${markOf(server())} ipv4`])
  t.is(after.marks.size, 0)
})

test('a change names the services that differ and no others', async (t) => {
  const { wanted, update } = noPlacements()
  const servers = [80, 81, 82].map((port) => server({ id: `s${port}`, port }))
  await update(servers)
  const same = await update(structuredClone(servers))
  t.is(same.services.size, 0)
  t.is(same.marks.size, 0)
  const changed = await wanted.change({
    set: [server({ id: 's82', port: 82, backends: [backend(1)] })],
    removed: [],
  })
  t.deepEqual([...changed.services], [`mark ${markOf(server({ port: 82 }))} ipv4`])
  t.is(changed.marks.size, 0)
  const fewer = await update(servers.slice(1))
  t.deepEqual([...fewer.marks], [markOf(server())])
  t.is(wanted.service(`mark ${markOf(server())} ipv4`), undefined)
})

const MARKS: readonly PacketMark[] = [
  { mark: 0x0a60_0002, packets: { type: 'address', address: '10.96.0.2' } },
  { mark: 0x8a60_0002, packets: { type: 'address', address: 'fd00::a60:2' } },
  { mark: 0xfe06_0050, packets: { type: 'port', family: 'ipv4', protocol: 'tcp', port: 80 } },
]

kernelTest(
  'marks are elements of four maps, changed one by one, adopted and removed',
  async (t, sandbox) => {
    const { native, netns, run } = sandbox
    const options = { table: 'skein_test_lb', netns }
    const list = (): string => run('nft list table inet skein_test_lb')
    const first = await NftMarks.open(native, options)
    await first.apply(MARKS)
    t.regex(list(), /10\.96\.0\.2 : 0x0a600002/)
    t.regex(list(), /fd00::a60:2 : 0x8a600002/)
    t.regex(list(), /tcp . 80 : 0xfe060050/)
    await first.apply(MARKS.slice(1))
    t.notRegex(list(), /10\.96\.0\.2/)
    await first.change({ given: MARKS.slice(0, 1), taken: MARKS.slice(2) })
    t.regex(list(), /10\.96\.0\.2 : 0x0a600002/)
    t.notRegex(list(), /fe060050/)
    await first.change({ given: MARKS.slice(2), taken: MARKS.slice(0, 1) })
    t.false(await first.check())
    first.close()
    const second = await NftMarks.open(native, options)
    t.regex(list(), /tcp . 80 : 0xfe060050/)
    await second.apply(MARKS.slice(0, 1))
    t.regex(list(), /10\.96\.0\.2 : 0x0a600002/)
    t.notRegex(list(), /fe060050/)
    await second.remove()
    t.is(run('nft list tables'), '')
    second.close()
  },
)

kernelTest('rules that somebody flushed come back, other tables stay', async (t, sandbox) => {
  const { native, netns, run } = sandbox
  const marks = await NftMarks.open(native, { table: 'skein_test_lb', netns })
  await marks.apply(MARKS)
  const before = run('nft list table inet skein_test_lb')
  run('nft flush ruleset; nft add table ip other')
  t.true(await marks.check())
  t.is(run('nft list table inet skein_test_lb'), before)
  run('nft delete table inet skein_test_lb')
  const dns = { type: 'port', family: 'ipv6', protocol: 'udp', port: 53 } as const
  await marks.apply([...MARKS, { mark: 9, packets: dns }])
  t.regex(run('nft list map inet skein_test_lb ports6'), /udp . 53 : 0x00000009/)
  t.regex(run('nft list tables'), /table ip other/)
  run('nft flush ruleset')
  await marks.change({ given: [], taken: MARKS.slice(0, 1) })
  t.regex(run('nft list table inet skein_test_lb'), /udp . 53 : 0x00000009/)
  t.notRegex(run('nft list table inet skein_test_lb'), /10\.96\.0\.2/)
  await marks.remove()
  marks.close()
})

test('what stands in for a scheduler is of its kind, and anything when there is none of it', (t) => {
  t.is(schedulerFor('mh', []), 'mh')
  t.is(schedulerFor('mh', ['mh']), 'sh')
  t.is(schedulerFor('lblc', ['lblc', 'wlc']), 'lc')
  t.is(schedulerFor('mh', ['mh', 'sh', 'dh', 'wrr']), 'rr')
  t.is(schedulerFor('wrr', SCHEDULERS), undefined)
  const { service } = placementOf(server({ scheduler: 'mh', backends: [backend(1)] }), ['mh'])
  t.is(service.options.scheduler, 'sh')
})
