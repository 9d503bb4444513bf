import { createSocket } from 'node:dgram'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import test from 'ava'
import type { ReadyImage } from '../../image/ports.ts'
import type { AllocatedPort } from '../../store/objects.ts'
import type { ContainerSpec } from '../../store/spec.ts'
import { imageOf } from '../testing/rootfs.ts'
import { HEALTH_DEFAULTS, effectiveCheck } from './health-check.ts'
import type { HealthCheck } from './health-check.ts'
import { HealthState } from './health-state.ts'
import { isServed, missingPorts, openPorts } from './listening.ts'
import { readinessOf, wishText } from './readiness.ts'
import type { Readiness } from './readiness.ts'

const SECOND = 1_000_000_000
const CHECK: HealthCheck = { argv: ['true'], ...HEALTH_DEFAULTS }

function image(config: Partial<ReadyImage['config']>): ReadyImage['config'] {
  return imageOf('/none', config).config
}

test('a check without details has Docker’s defaults; its line is run by a shell', (t) => {
  const check = effectiveCheck({ Test: ['CMD-SHELL', 'curl -f localhost || exit 1'] }, image({}))
  t.deepEqual(check, {
    argv: ['/bin/sh', '-c', 'curl -f localhost || exit 1'],
    intervalMs: 30_000,
    timeoutMs: 30_000,
    startPeriodMs: 0,
    startIntervalMs: 5_000,
    retries: 3,
  })
  const shell = ['/bin/bash', '-ec']
  const own = effectiveCheck({ Test: ['CMD-SHELL', 'x'] }, image({ shell }))
  t.deepEqual(own?.argv, ['/bin/bash', '-ec', 'x'])
})

test('what a service leaves open is as its image says, one by one', (t) => {
  const healthcheck = { Test: ['CMD', 'well', '-q'], Interval: 2 * SECOND, Retries: 7 }
  t.deepEqual(effectiveCheck(undefined, image({ healthcheck })), {
    ...CHECK,
    argv: ['well', '-q'],
    intervalMs: 2_000,
    retries: 7,
  })
  const given = { Interval: 5 * SECOND, Timeout: SECOND / 2, StartPeriod: SECOND, Test: [] }
  t.deepEqual(effectiveCheck(given, image({ healthcheck })), {
    ...CHECK,
    argv: ['well', '-q'],
    intervalMs: 5_000,
    timeoutMs: 500,
    startPeriodMs: 1_000,
    retries: 7,
  })
})

test('NONE and tests that say nothing are no check, whatever the image has', (t) => {
  const healthcheck = { Test: ['CMD', 'well'] }
  for (const Test of [['NONE'], ['CMD'], ['CMD-SHELL', ''], ['SOMETHING', 'x']]) {
    t.is(effectiveCheck({ Test }, image({ healthcheck })), undefined, Test.join(' '))
  }
  t.is(effectiveCheck({ Interval: SECOND }, image({})), undefined)
  const odd = { Test: ['CMD', 'x'], Interval: -5, Timeout: 1e30, Retries: -1 }
  const check = effectiveCheck(undefined, image({ healthcheck: odd }))
  t.is(check?.intervalMs, HEALTH_DEFAULTS.intervalMs)
  t.is(check?.timeoutMs, 2 ** 31 - 1, 'what a timer can count')
  t.is(check?.retries, HEALTH_DEFAULTS.retries)
})

/** Passes (`+`) and failures (`-`), a second apart from second 1 on; the statuses after them. */
function statuses(results: string, wishes: Partial<HealthCheck>, known?: 'healthy'): string[] {
  const check = { ...CHECK, ...wishes }
  const state = new HealthState(check, { startedMs: 0, known: known ?? 'starting' })
  return results.split('').map((one, index) => state.onResult(one === '+', (index + 1) * 1_000))
}

test('the first check that passes makes healthy, failures in a row unhealthy', (t) => {
  t.deepEqual(statuses('-+', {}), ['starting', 'healthy'])
  t.deepEqual(statuses('---', {}), ['starting', 'starting', 'unhealthy'])
  t.deepEqual(statuses('+--+--', {}), Array(6).fill('healthy'), 'not in a row')
  t.deepEqual(statuses('+---', {}).at(-1), 'unhealthy')
  t.deepEqual(statuses('-', { retries: 1 }, 'healthy'), ['unhealthy'])
})

test('failures in the start period do not count, but for a task that was healthy', (t) => {
  const patient = { startPeriodMs: 3_500, retries: 2 }
  t.deepEqual(statuses('----', patient), Array(4).fill('starting'), 'the fourth is the first')
  t.is(statuses('-----', patient).at(-1), 'unhealthy')
  t.is(statuses('+--', patient).at(-1), 'unhealthy', 'healthy ends the start period')
})

test('checks come at the start interval until healthy or the start period is over', (t) => {
  const check = { ...CHECK, startPeriodMs: 60_000, startIntervalMs: 100 }
  const begin = { startedMs: 1_000, known: 'starting' } as const
  const state = new HealthState(check, begin)
  t.is(state.delayMs(1_000), 100)
  t.is(state.delayMs(60_999), 100)
  t.is(state.delayMs(61_000), 30_000)
  state.onResult(true, 2_000)
  t.is(state.delayMs(2_000), 30_000)
  t.is(new HealthState(CHECK, begin).delayMs(1_000), 30_000, 'no start period: as Docker')
})

function port(targetPort: number, protocol: AllocatedPort['protocol'] = 'tcp'): AllocatedPort {
  return { protocol, targetPort, publishedPort: 30_000, publishMode: 'ingress' }
}

function readiness(
  about: {
    readonly ports?: readonly AllocatedPort[]
    readonly networks?: readonly string[]
    readonly container?: Partial<ContainerSpec>
  },
  config: Partial<ReadyImage['config']> = {},
): Readiness | undefined {
  const networks = about.networks?.map((networkId) => ({ networkId, aliases: [] }))
  const task = {
    spec: { ContainerSpec: { Image: 'x', ...about.container } },
    ports: about.ports ?? [],
    ...(networks === undefined ? {} : { networks }),
  }
  return readinessOf(task, image(config))
}

test('a task is ready by its check, else by its published, else by its exposed ports', (t) => {
  const exposed = { exposedPorts: ['80/tcp', '53/udp', '9/sctp', '7000-7010', '8080'] }
  const container = { Healthcheck: { Test: ['CMD', 'x'] } }
  t.is(readiness({ ports: [port(80)], container }, exposed)?.type, 'check')
  t.deepEqual(readiness({ ports: [port(80), port(53, 'udp'), port(9, 'sctp')] }, exposed), {
    type: 'listen',
    wish: {
      enough: 'all',
      ports: [
        { protocol: 'tcp', port: 80 },
        { protocol: 'udp', port: 53 },
      ],
    },
  })
  t.is(readiness({}, exposed), undefined, 'nobody can reach it')
  const member = readiness({ networks: ['front'] }, exposed)
  t.is(member?.type === 'listen' ? wishText(member.wish) : '', '80/tcp or 53/udp or 8080/tcp')
  t.is(readiness({ networks: ['front'] }), undefined, 'it does not say what it serves')
})

test('all published ports must be there, of exposed ones one is enough', (t) => {
  const ports = [80, 81].map((number) => ({ protocol: 'tcp' as const, port: number }))
  const [first, second] = ports
  if (first === undefined || second === undefined) throw new Error('two ports')
  t.false(isServed({ ports, enough: 'all' }, [second]))
  t.true(isServed({ ports, enough: 'all' }, []))
  t.true(isServed({ ports, enough: 'any' }, [second]))
  t.false(isServed({ ports, enough: 'any' }, ports))
})

test('the kernel’s tables are read as they are', (t) => {
  const tcp = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0
   2: 0500000A:0051 0600000A:C350 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0
`
  const tcp6 = `header
   0: 00000000000000000000000001000000:1F91 0:0 0A
   1: 0000000000000000FFFF00000100007F:1F92 0:0 0A
   2: 00000000000000000000000000000000:01BB 0:0 0A
`
  const about = { protocol: 'tcp', byLoopback: false } as const
  t.deepEqual([...openPorts(tcp, about)], [80], 'not a connection, not loopback')
  t.deepEqual([...openPorts(tcp, { ...about, byLoopback: true })], [8080, 80])
  t.deepEqual([...openPorts(tcp6, about)], [443])
  t.deepEqual([...openPorts(tcp6, { ...about, byLoopback: true })], [8081, 8082, 443])
  t.deepEqual([...openPorts('', about)], [])
})

test('a program is seen to listen from the moment it does, and no longer', async (t) => {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()))
  const { port: tcp } = server.address() as AddressInfo
  const socket = createSocket('udp6')
  await new Promise<void>((resolve) => socket.bind(0, () => resolve()))
  const { port: udp } = socket.address()
  const ports = [
    { protocol: 'tcp' as const, port: tcp },
    { protocol: 'udp' as const, port: udp },
  ]
  const query = { pid: process.pid, wish: { ports, enough: 'all' as const }, byLoopback: true }
  t.deepEqual(await missingPorts(query), [])
  t.deepEqual(await missingPorts({ ...query, byLoopback: false }), ports.slice(0, 1))
  await new Promise((resolve) => server.close(resolve))
  t.deepEqual(await missingPorts(query), ports.slice(0, 1))
  socket.close()
  const none = 2 ** 22 + 1
  t.deepEqual(await missingPorts({ ...query, pid: none }), ports, 'no such process')
})
