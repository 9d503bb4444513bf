/* When a change of the host's addresses is told: by events of our making, and by the kernel's. */
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { systemClock } from '../base/clock.ts'
import { silentLogger } from '../base/log.ts'
import { ManualClock } from '../control/testing/manual-clock.ts'
import { eventually, kernelTest } from '../network/netlink/testing/sandbox.ts'
import { AddressWatch, CHANGES_MAX, COALESCE_MS, WINDOW_MS } from './address-watch.ts'

/** A host with one address that the test sets. */
function scene() {
  const clock = new ManualClock()
  const host = { addresses: ['192.0.2.1'], looks: 0 }
  const read = (): readonly string[] => {
    host.looks += 1
    return host.addresses
  }
  const watch = new AddressWatch({ clock, log: silentLogger, read })
  const told: string[] = []
  const undo = watch.onChange(() => told.push(host.addresses.join(' ')))
  const become = (...addresses: string[]): void => {
    host.addresses = addresses
    watch.noteEvent()
  }
  return { clock, host, watch, told, undo, become }
}

test('events that come together are one look, and only another address is told', async (t) => {
  const { clock, host, watch, told, undo, become } = scene()
  for (let count = 0; count < 100; count += 1) watch.noteEvent()
  await clock.advance(COALESCE_MS)
  t.deepEqual([host.looks, told], [2, []])
  become('192.0.2.1', '2001:db8::1')
  become('192.0.2.1')
  await clock.advance(COALESCE_MS)
  t.deepEqual(told, [], 'it went before anybody looked')
  become('192.0.2.2')
  await clock.advance(COALESCE_MS)
  t.deepEqual(told, ['192.0.2.2'])
  undo()
  become('192.0.2.3')
  await clock.advance(COALESCE_MS)
  t.deepEqual(told, ['192.0.2.2'])
  t.is(clock.pending, 0, 'nothing is left')
})

test('an address that flaps is told a few times, and in the end as it is', async (t) => {
  const { clock, told, become } = scene()
  const beganMs = clock.monotonicMs()
  for (let count = 0; count < 50; count += 1) {
    become(...(count % 2 === 0 ? [] : ['192.0.2.1']))
    await clock.advance(1_000)
  }
  t.is(told.length, CHANGES_MAX)
  become('192.0.2.9')
  await clock.advance(WINDOW_MS - (clock.monotonicMs() - beganMs) + COALESCE_MS)
  t.deepEqual(told.slice(CHANGES_MAX), ['192.0.2.9'])
  await clock.advance(WINDOW_MS)
  become('192.0.2.10')
  await clock.advance(COALESCE_MS)
  t.is(told.at(-1), '192.0.2.10', 'after a quiet time, at once again')
  t.is(clock.pending, 0)
})

test('a watch that is closed leaves no timer and tells nothing', async (t) => {
  const { clock, watch, told, become } = scene()
  become('192.0.2.2')
  watch[Symbol.dispose]()
  t.is(clock.pending, 0)
  await clock.advance(COALESCE_MS)
  t.deepEqual(told, [])
})

kernelTest('the kernel’s events tell of addresses and cables', async (t, sandbox) => {
  const read = (): readonly string[] => {
    const listed = sandbox.run('ip -o addr show up scope global')
    return [...listed.matchAll(/inet6? ([^/]+)\//g)].map((match) => match[1] ?? '').toSorted()
  }
  sandbox.run('ip link add e0 type bridge; ip link set e0 up; ip addr add 192.0.2.1/24 dev e0')
  const load = { type: 'loaded', native: sandbox.native } as const
  const components = { clock: systemClock, log: silentLogger, read }
  using watch = await AddressWatch.open(components, load, sandbox.netns)
  const told: string[] = []
  watch.onChange(() => told.push(read().join(' ')))
  const beganMs = performance.now()
  sandbox.run('ip addr add 192.0.2.2/24 dev e0; ip addr add 2001:db8::2/64 dev e0 nodad')
  await eventually(() => told.length > 0, 'new addresses are told')
  t.log(`told after ${Math.round(performance.now() - beganMs)} ms`)
  t.deepEqual(told, ['192.0.2.1 192.0.2.2 2001:db8::2'])
  sandbox.run('ip link set e0 down')
  await eventually(() => told.length > 1, 'an interface that is down is told')
  t.is(told[1], '')
  sandbox.run('ip link add e1 type bridge; ip link set e1 up; ip link del e1')
  await sleep(2 * COALESCE_MS)
  t.is(told.length, 2, 'interfaces without addresses are nobody’s business')
})

kernelTest(
  'where events cannot be had nothing is told, and the log says why',
  async (t, sandbox) => {
    const { native } = sandbox
    const warnings: string[] = []
    const log = { ...silentLogger, warn: (_fields: object, text: string) => warnings.push(text) }
    const components = { clock: systemClock, log, read: () => [] }
    using watch = await AddressWatch.open(components, { type: 'loaded', native }, '/no/namespace')
    t.deepEqual(warnings, ['changes of addresses are not told at once'])
    t.notThrows(() => watch.onChange(() => t.fail())())
  },
)
