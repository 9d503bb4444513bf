import test from 'ava'
import * as fc from 'fast-check'
import type { Task } from '../store/objects.ts'
import { nodeDraft, taskDraft } from '../store/testing/fixtures.ts'
import { NodeUsage } from './node-usage.ts'
import {
  addressText,
  cidrText,
  lowestFreeSubnet,
  nextAddress,
  parseAddress,
  parseCidr,
  type Cidr,
} from './subnets.ts'

const META = { version: 1, createdVersion: 1, createdAt: '', updatedAt: '' }

function cidr(text: string): Cidr {
  const parsed = parseCidr(text)
  if (parsed === undefined) throw new Error(text)
  return parsed
}

function task(address: string, fields: Partial<Task>): Task {
  return { ...taskDraft(`task-${address}`, { address }), meta: META, ...fields }
}

test('addresses and blocks are read and written', (t) => {
  for (const text of ['0.0.0.0', '10.1.2.3', '255.255.255.255']) {
    t.is(addressText(parseAddress(text) ?? -1), text)
  }
  t.is(cidrText(cidr('192.168.77.1/20')), '192.168.64.0/20')
  t.is(cidr('0.0.0.0/0').size, 2 ** 32)
  for (const text of ['1.2.3', '1.2.3.256', '1.2.3.4.5', 'a.b.c.d', '1.2.3.-4', '']) {
    t.is(parseAddress(text), undefined, text)
  }
  for (const text of ['10.0.0.0', '10.0.0.0/33', '10.0.0.0/', 'x/8']) {
    t.is(parseCidr(text), undefined, text)
  }
})

test('a subnet is the lowest that overlaps none', (t) => {
  const pools = ['10.0.0.0/30', '10.1.0.0/22', '10.2.0.0/16']
  const taken: Cidr[] = []
  const given: string[] = []
  for (let round = 0; round < 6; round += 1) {
    const subnet = lowestFreeSubnet(pools, 24, taken)
    if (subnet === undefined) break
    taken.push(subnet)
    given.push(cidrText(subnet))
  }
  t.deepEqual(given, [
    '10.1.0.0/24',
    '10.1.1.0/24',
    '10.1.2.0/24',
    '10.1.3.0/24',
    '10.2.0.0/24',
    '10.2.1.0/24',
  ])
  t.is(lowestFreeSubnet(['10.0.0.0/23'], 24, [cidr('10.0.0.0/16')]), undefined)
  const between = lowestFreeSubnet(['10.0.0.0/8'], 24, [cidr('10.0.0.0/25'), cidr('10.0.1.128/25')])
  t.is(between && cidrText(between), '10.0.2.0/24')
})

test('subnets never overlap, whatever is taken', (t) => {
  const block = fc
    .tuple(fc.integer({ min: 0, max: 255 }), fc.integer({ min: 22, max: 27 }))
    .map(([third, prefix]) => cidr(`10.0.${third}.0/${prefix}`))
  fc.assert(
    fc.property(fc.array(block, { maxLength: 20 }), (taken) => {
      const subnet = lowestFreeSubnet(['10.0.0.0/16'], 24, taken)
      if (subnet === undefined) return true
      const overlaps = (other: Cidr): boolean =>
        subnet.base < other.base + other.size && other.base < subnet.base + subnet.size
      return !taken.some(overlaps)
    }),
  )
  t.pass()
})

test('addresses go round the subnet and rest before they come back', (t) => {
  const held = new Set<string>()
  const given: string[] = []
  let last: string | undefined
  for (let round = 0; round < 6; round += 1) {
    const address = nextAddress('10.0.0.8/29', { held, recent: new Set(), last })
    if (address === undefined) break
    last = address
    given.push(address)
    held.add(address)
  }
  t.deepEqual(given, ['10.0.0.10', '10.0.0.11', '10.0.0.12', '10.0.0.13', '10.0.0.14'])
  held.delete('10.0.0.11')
  held.delete('10.0.0.13')
  const use = { held, recent: new Set(['10.0.0.11']), last: '10.0.0.14' }
  t.is(nextAddress('10.0.0.8/29', use), '10.0.0.13', 'one on record rests longer')
  held.add('10.0.0.13')
  t.is(nextAddress('10.0.0.8/29', use), '10.0.0.11', 'but is better than none')
  t.is(nextAddress('10.0.0.8/31', { ...use, held: new Set() }), undefined)
})

test('an ended task keeps its address while its node may restart it', (t) => {
  const node = { ...nodeDraft('n1', { subnet: '10.0.0.0/29' }), meta: META }
  const failed = { state: 'failed', timestamp: '', message: '' } as const
  const usage = new NodeUsage(node)
  for (const host of [2, 3, 4]) usage.add(task(`10.0.0.${host}`, {}))
  usage.add(task('10.0.0.5', { status: failed, desiredState: 'running' }))
  usage.add(task('10.0.0.6', { status: failed, desiredState: 'shutdown' }))
  t.is(usage.freeAddress(undefined), '10.0.0.6')
  usage.add(task('10.0.0.6', {}))
  t.is(usage.freeAddress(undefined), undefined)
  t.is(usage.tasks, 4)
})

test('a task that is to stop holds resources and host ports, but counts for no spread', (t) => {
  const node = { ...nodeDraft('n1'), meta: META }
  const usage = new NodeUsage(node)
  const spec = {
    ContainerSpec: { Image: 'web:1' },
    Resources: { Reservations: { NanoCPUs: 2e9, MemoryBytes: 5 } },
  }
  const port = { protocol: 'tcp', targetPort: 80, publishedPort: 99, publishMode: 'host' } as const
  usage.add(task('10.0.0.2', { spec, ports: [port], desiredState: 'shutdown' }))
  t.is(usage.nanoCpus, 2e9)
  t.is(usage.memoryBytes, 5)
  t.true(usage.hostPorts.has('tcp/99'))
  t.is(usage.countOf('service'), 0)
})
