import test from 'ava'
import { seededRandom } from '../base/random.ts'
import { choosePool } from './address-pool.ts'

const HEADER = 'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT'

function routes(...pairs: readonly (readonly [destination: string, mask: string])[]): string {
  const rows = pairs.map(
    ([destination, mask]) => `eth0\t${destination}\t00000000\t0001\t0\t0\t0\t${mask}\t0\t0\t0`,
  )
  return `${[HEADER, ...rows].join('\n')}\n`
}

function drawn(text: string): Set<string> {
  const random = seededRandom(1)
  return new Set(Array.from({ length: 500 }, () => choosePool(random, text)))
}

test('any of 16 ranges is drawn on a host that uses none; its default route means nothing', (t) => {
  t.is(drawn(routes(['00000000', '00000000'], ['000200C0', '00FFFFFF'])).size, 16)
  t.is(drawn('').size, 16)
})

test('a range that the host routes into is not drawn', (t) => {
  // 10.136.1.0/24 and 10.144.0.0/12
  const pools = drawn(routes(['0001880A', '00FFFFFF'], ['0000900A', '0000F0FF']))
  t.is(pools.size, 13)
  for (const used of ['10.136.0.0/13', '10.144.0.0/13', '10.152.0.0/13']) t.false(pools.has(used))
})

test('when all are used, as in a network 10.0.0.0/8, one is drawn all the same', (t) => {
  t.is(drawn(routes(['0000000A', '000000FF'])).size, 16)
})
