/** Open ports as the kernel tells them by netlink, and as its files do. */
import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { missingPorts } from '../agent/health/listening.ts'
import type { ListenWish, ServedPort } from '../agent/health/readiness.ts'
import { missing, kernelTest } from '../network/netlink/testing/sandbox.ts'
import { loadNative } from '../network/netlink/native.ts'
import { openPortReader } from './open-ports.ts'

/** No process has it. */
const NO_PID = 2 ** 22 + 1

function wish(...asked: readonly string[]): ListenWish {
  const ports = asked.map((text): ServedPort => {
    const [port, protocol] = text.split('/')
    return { protocol: protocol === 'udp' ? 'udp' : 'tcp', port: Number(port) }
  })
  return { ports, enough: 'all' }
}

function texts(ports: readonly ServedPort[]): string[] {
  return ports.map(({ protocol, port }) => `${port}/${protocol}`)
}

test('without the addon there is no reader', (t) => {
  t.deepEqual(openPortReader({ type: 'absent', reason: 'test' }), {})
})

const ownTest = missing === '' ? test : test.skip

ownTest('sockets of both families are told from connections, by either way', async (t) => {
  const { openPorts } = openPortReader(loadNative())
  const listen = async (host: string): Promise<number> => {
    const server = createServer((client) => client.resume())
    await new Promise<void>((resolve) => server.listen(0, host, () => resolve()))
    t.teardown(() => server.close())
    return (server.address() as AddressInfo).port
  }
  const bind = async (type: 'udp4' | 'udp6', isConnected: boolean): Promise<number> => {
    const socket = createSocket(type)
    await new Promise<void>((resolve) => socket.bind(0, () => resolve()))
    t.teardown(() => socket.close())
    const { port } = socket.address()
    const there = type === 'udp4' ? '127.0.0.1' : '::1'
    if (isConnected) await new Promise<void>((resolve) => socket.connect(9, there, resolve))
    return port
  }
  const all = await Promise.all([listen('0.0.0.0'), listen('::')])
  const loopback = await Promise.all(['127.0.0.1', '::1', '::ffff:127.0.0.1'].map(listen))
  const datagrams = await Promise.all([bind('udp4', false), bind('udp6', false)])
  const connected = await Promise.all([bind('udp4', true), bind('udp6', true)])
  const asked = wish(
    ...[...all, ...loopback].map((port) => `${port}/tcp`),
    ...[...datagrams, ...connected].map((port) => `${port}/udp`),
  )
  for (const reader of [openPorts, undefined]) {
    const query = { pid: process.pid, wish: asked, byLoopback: true }
    const busy = connected.map((port) => `${port}/udp`)
    t.deepEqual(texts(await missingPorts(query, reader)), busy)
    t.deepEqual(texts(await missingPorts({ ...query, byLoopback: false }, reader)), [
      ...loopback.map((port) => `${port}/tcp`),
      ...busy,
    ])
  }
  t.is(await openPorts?.(NO_PID, 'tcp'), undefined, 'no such process')
})

kernelTest('ports are those of the process’s own namespace', async (t, { native, netns, run }) => {
  const { openPorts } = openPortReader({ type: 'loaded', native })
  run('ip link set lo up')
  const words = [`--net=${netns}`, 'busybox', 'httpd', '-f', '-p', '0.0.0.0:8079']
  const child = spawn('nsenter', words, { stdio: 'ignore' })
  t.teardown(() => child.kill('SIGKILL'))
  const query = { pid: child.pid ?? 0, wish: wish('8079/tcp'), byLoopback: false }
  const deadlineMs = performance.now() + 20_000
  while ((await missingPorts(query, openPorts)).length > 0) {
    t.true(performance.now() < deadlineMs, 'it is never seen to listen')
    await sleep(10)
  }
  t.deepEqual(await openPorts?.(query.pid, 'tcp'), [{ port: 8_079, isLoopback: false }])
  t.deepEqual(await openPorts?.(query.pid, 'udp'), [])
  t.deepEqual(texts(await missingPorts({ ...query, pid: process.pid }, openPorts)), ['8079/tcp'])
})
