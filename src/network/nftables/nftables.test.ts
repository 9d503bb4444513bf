/** What the nftables driver wants of a kernel: shares, Maglev tables, placements, differences. */
import test from 'ava'
import { array, assert as check, integer, property } from 'fast-check'
import { at } from '../../base/assert.ts'
import type { Backend, VirtualServer } from '../ports.ts'
import { changeOf, stillDropped } from './difference.ts'
import type { Dropped } from './difference.ts'
import { decodeElement, encodeElement, mapOf } from './element-codec.ts'
import { fieldsBytes } from '../netlink/nft-field.ts'
import { maglevTable } from '../maglev.ts'
import { DRAINING_SLOTS, compileServer, frontendFamily } from './placement.ts'
import { shareSlots, slotCounts } from './slots.ts'

function backend(index: number, given: Partial<Backend> = {}): Backend {
  const address = `10.32.${index >> 8}.${index & 255}`
  return {
    taskId: `task${index}`,
    nodeId: 'n',
    local: true,
    address,
    port: 80,
    weight: 1,
    ...given,
  }
}

function server(given: Partial<VirtualServer>): VirtualServer {
  const about = { id: 's/tcp/80', protocol: 'tcp', address: '0.0.0.0', port: 80 } as const
  return { ...about, backends: [], ...given }
}

const names = (count: number): string[] => Array.from({ length: count }, (_, i) => `task${i}`)

test('weights with a small sum are shared exactly', (t) => {
  t.deepEqual(slotCounts([7, 3]), [7, 3])
  t.deepEqual(slotCounts([4, 4, 1]), [4, 4, 1])
  t.deepEqual(
    slotCounts(Array.from({ length: 10 }, () => 4)),
    Array.from({ length: 10 }, () => 1),
  )
})

test('any weights are shared to a tenth, or everyone has a slot of the largest size', (t) => {
  const weights = array(integer({ min: 1, max: 65_535 }), { minLength: 1, maxLength: 300 })
  check(
    property(weights, (given) => {
      const counts = slotCounts(given)
      const size = counts.reduce((sum, count) => sum + count, 0)
      const sum = given.reduce((total, weight) => total + weight, 0)
      const isFair = given.every((weight, index) => {
        const ideal = (weight / sum) * size
        return Math.abs(at(counts, index) - ideal) <= 0.1 * ideal + 1e-9
      })
      return counts.every((count) => count >= 1) && (size === 4096 || isFair)
    }),
  )
  t.is(slotCounts([65_535, 1]).length, 2)
  t.deepEqual(slotCounts([65_535, 1]), [4095, 1])
})

test('two nodes fill the same Maglev table from different orders', (t) => {
  const given = names(10)
  const here = maglevTable(given, 251).map((index) => given[index])
  const reversed = given.toReversed()
  t.deepEqual(
    maglevTable(reversed, 251).map((index) => reversed[index]),
    here,
  )
})

test('a Maglev table has even shares, and a name that goes moves few others', (t) => {
  for (const [count, size] of [
    [3, 251],
    [10, 251],
    [25, 251],
    [100, 1021],
  ] as const) {
    const given = names(count)
    const table = maglevTable(given, size)
    const shares = given.map((_, index) => table.filter((owner) => owner === index).length)
    t.true(Math.max(...shares) - Math.min(...shares) <= 1)
    const without = given.toSpliced(1, 1)
    const after = maglevTable(without, size).map((index) => without[index])
    const before = table.map((index) => given[index])
    const kept = before.filter((name) => name !== 'task1').length
    const moved = before.filter((name, slot) => name !== 'task1' && name !== after[slot]).length
    t.log(`${count} backends, ${size} slots: ${moved} of ${kept} others moved`)
    t.true(moved / kept < 0.2, `${moved} of ${kept}`)
  }
})

test('affinity does not follow weights, which differ between nodes', (t) => {
  const equal = [0, 1, 2].map((index) => backend(index, { weight: 4 }))
  const unequal = [0, 1, 2].map((index) => backend(index, { weight: index + 1 }))
  t.deepEqual(shareSlots(equal, true), shareSlots(unequal, true))
})

test('a port that only the layer below can serve is left to it; one without replicas is refused', (t) => {
  const chain = (backends: readonly Backend[]): string | undefined =>
    compileServer(server({ backends })).placement?.chain
  const loopback = backend(1, { address: '127.0.0.1' })
  const relayed = backend(2, { local: false })
  t.is(chain([]), 'refuse')
  t.is(chain([backend(0, { weight: 0 })]), 'refuse')
  t.is(chain([loopback]), undefined)
  t.is(chain([relayed]), undefined)
  t.is(chain([backend(0, { weight: 0 }), relayed]), undefined)
  t.is(chain([backend(0), relayed, loopback]), 'port_spread_1')
  t.is(chain([backend(0), backend(3, { local: false, routed: true })]), 'port_spread_2')
  t.is(compileServer(server({ address: '127.0.0.1', backends: [] })).placement, undefined)
})

test('a virtual address is never left; one without usable replicas refuses and is a fault', (t) => {
  const vip = { protocol: 'any', address: '10.96.0.2', port: 0 } as const
  const { placement, fault } = compileServer(
    server({ ...vip, backends: [backend(0, { local: false })] }),
  )
  t.is(placement?.chain, 'refuse')
  t.regex(fault ?? '', /reaches none/)
  t.is(compileServer(server({ ...vip, backends: [] })).fault, undefined)
})

test('who drains has a slot that nothing picks, and is dropped only when it leaves', (t) => {
  const both = compileServer(server({ backends: [backend(0), backend(1)] })).placement
  const drains = compileServer(server({ backends: [backend(0), backend(1, { weight: 0 })] }))
  const one = compileServer(server({ backends: [backend(0)] })).placement
  t.deepEqual([...(drains.placement?.slots.keys() ?? [])], [0, DRAINING_SLOTS])
  t.deepEqual(changeOf(both, drains.placement)?.dropped, [])
  const [dropped] = changeOf(drains.placement, one)?.dropped ?? []
  t.is(dropped?.target.address, '10.32.0.1')
  t.is(changeOf(both, both), undefined)
})

/** Why each of the other backends is dropped, when `before` becomes `after`. */
function reasons(before: readonly Backend[], after: readonly Backend[], protocol = 'tcp'): string {
  const [one, other] = [before, after].map((backends) => {
    const vip = { protocol: 'any', address: '10.96.0.2', port: 0 } as const
    return compileServer(server({ ...(protocol === 'any' ? vip : {}), backends })).placement
  })
  const dropped = changeOf(one, other)?.dropped ?? []
  return dropped.map(({ target, why }) => `${target.address} ${why}`).join(', ')
}

test('who is lost keeps what it answered, once, and only while another serves', (t) => {
  const drains = backend(1, { weight: 0 })
  const lost = { ...drains, lost: true }
  t.is(reasons([backend(0), backend(1)], [backend(0), lost]), '10.32.0.1 lost')
  t.is(reasons([backend(0), drains], [backend(0), lost]), '10.32.0.1 lost')
  t.is(reasons([backend(0), lost], [backend(0), lost]), '')
  t.is(reasons([backend(0), lost], [backend(0), drains]), '')
  t.is(reasons([backend(0), backend(1)], [{ ...backend(0), weight: 0 }, lost]), '')
  t.is(reasons([{ ...backend(0), weight: 0 }, lost], [backend(0), lost]), '10.32.0.1 lost')
  t.is(reasons([backend(0), lost], [backend(0)]), '10.32.0.1 gone')
  t.is(reasons([backend(0), backend(1)], [backend(0), drains], 'any'), '10.32.0.1 draining')
  t.is(reasons([backend(0), backend(1)], [backend(0), lost], 'any'), '10.32.0.1 lost')
})

test('what was to be forgotten is not when its target is back', (t) => {
  const placement = (...backends: Backend[]) => compileServer(server({ backends })).placement
  const frontend = { kind: 'port', family: 'ipv4', protocol: 'tcp', port: 80 } as const
  const dropped = (why: Dropped['why']): Dropped => {
    return { frontend, target: { address: '10.32.0.1', port: 80 }, why }
  }
  const left = (why: Dropped['why'], ...backends: Backend[]): string | undefined =>
    stillDropped(dropped(why), placement(backend(0), ...backends))?.why
  const drains = backend(1, { weight: 0 })
  for (const why of ['gone', 'draining', 'lost'] as const) {
    t.is(left(why, backend(1)), undefined)
    t.is(left(why), why)
  }
  t.is(left('gone', drains), undefined)
  t.is(left('draining', drains), 'draining')
  t.is(left('lost', drains), 'draining')
  t.is(left('lost', { ...drains, lost: true }), 'lost')
  t.is(stillDropped(dropped('lost'), undefined)?.why, 'lost')
})

test('more replicas than slots: the rest wait and it is a fault', (t) => {
  const backends = Array.from({ length: 4_100 }, (_, index) => backend(index))
  const { placement, fault } = compileServer(server({ backends }))
  t.is(placement?.chain, 'port_spread_4096')
  t.is(placement?.slots.size, 4_100)
  t.regex(fault ?? '', /^4 of 4100/)
})

test('elements are read as they were written', (t) => {
  const frontends = [
    { kind: 'vip', address: '10.96.255.7' },
    { kind: 'vip', address: 'fd12:3456:789a::a60:2' },
    { kind: 'port', family: 'ipv4', protocol: 'sctp', port: 65_535 },
    { kind: 'port', family: 'ipv6', protocol: 'tcp', port: 1 },
    { kind: 'bound', address: '192.0.2.1', protocol: 'udp', port: 53 },
    { kind: 'bound', address: '2001:db8::1', protocol: 'udp', port: 53 },
  ] as const
  for (const frontend of frontends) {
    const port = frontend.kind === 'vip' ? 0 : 8_080
    const family = frontendFamily(frontend)
    const address = family === 'ipv4' ? '10.32.0.9' : 'fd12:3456:789a::a20:9'
    const target = { address, port }
    for (const element of [
      { type: 'server', frontend, chain: 'refuse' } as const,
      { type: 'slot', frontend, slot: DRAINING_SLOTS + 3, target } as const,
    ]) {
      const { key, data } = encodeElement(element)
      const bytes = data !== undefined && !('verdict' in data) ? fieldsBytes(data) : undefined
      const verdict = data !== undefined && 'verdict' in data ? data : undefined
      const read = { key: fieldsBytes(key), keyEnd: undefined, isIntervalEnd: false }
      const kernel = { ...read, data: bytes, verdict, expiresInMs: undefined }
      t.deepEqual(decodeElement({ map: mapOf(element), family }, kernel), element)
    }
  }
})
