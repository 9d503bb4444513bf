/** The doctor on this host and on hosts made of files. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { kernelTest } from '../../network/netlink/testing/sandbox.ts'
import { systemClock } from '../../base/clock.ts'
import type { Clock } from '../../base/clock.ts'
import { examine, worstLevel } from './doctor.ts'
import type { Check, Finding } from './finding.ts'
import { hostChecks } from './host-checks.ts'
import { networkChecks } from './network-checks.ts'
import { storageChecks } from './storage-checks.ts'

async function run(checks: readonly Check[], name: string): Promise<Finding> {
  const check = checks.find((one) => one.name === name)
  const found = await check?.run()
  if (found === undefined || Array.isArray(found)) throw new Error(`${name}: says not one thing`)
  return found as Finding
}

async function directory(t: { teardown(fn: () => Promise<void>): void }): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'skein-doctor-'))
  t.teardown(() => rm(path, { recursive: true }))
  return path
}

test('an examination says something of everything, and what to do where it is not well', async (t) => {
  const dataDirectory = join(await directory(t), 'not', 'there')
  const findings = await examine({ dataDirectory, listenAddress: '127.0.0.1:0' })
  const checks = findings.map((finding) => finding.check)
  for (const name of ['clock', 'data directory', 'disk latency', 'mesh port', 'control groups']) {
    t.true(checks.includes(name), name)
  }
  for (const { check, level, advice } of findings)
    t.is(advice === undefined, level === 'pass', check)
})

test('a clock from another time is warned of', async (t) => {
  const at = (wallMs: number): Clock => ({ ...systemClock, wallMs: () => wallMs })
  const levels: string[] = []
  for (const wallMs of [0, Date.UTC(2026, 0, 2), Date.now()]) {
    levels.push((await run(hostChecks({ clock: at(wallMs) }), 'clock')).level)
  }
  t.is(levels[0], 'warn')
  t.is(levels[2], 'pass')
})

test('a bare host is told what it lacks', async (t) => {
  const root = await directory(t)
  const places = { proc: '/proc', sys: root, etc: root, path: root }
  const bare = hostChecks({ clock: systemClock }, places)
  t.regex((await run(bare, 'control groups')).message, /none that limits anything/)
  t.regex((await run(bare, 'container runtime')).message, /neither crun nor runc/)
  t.regex((await run(bare, 'name servers')).message, /nothing outside/)
  await mkdir(join(root, 'fs/cgroup'), { recursive: true })
  await writeFile(join(root, 'fs/cgroup/cgroup.controllers'), 'cpuset cpu pids\n')
  await writeFile(join(root, 'runc'), '')
  await writeFile(join(root, 'resolv.conf'), 'nameserver 192.0.2.1\n')
  t.regex((await run(bare, 'control groups')).message, /without memory/)
  t.regex((await run(bare, 'container runtime')).message, /runc without conmon/)
  t.like(await run(bare, 'name servers'), { level: 'pass', message: '192.0.2.1' })
})

kernelTest(
  'a firewall that drops what is forwarded is told, and what to do',
  async (t, sandbox) => {
    const { netns, run: sh } = sandbox
    const look = async (): Promise<readonly Finding[]> => {
      const checks = networkChecks({ listenAddress: '127.0.0.1:0' }, { proc: '/proc', netns })
      const found = await checks.find(({ name }) => name === 'host firewall')?.run()
      return Array.isArray(found) ? (found as readonly Finding[]) : []
    }
    t.deepEqual(
      (await look()).map(({ level }) => level),
      ['pass'],
    )
    sh(
      `nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'`,
    )
    const [finding, ...more] = await look()
    t.is(finding?.level, 'warn')
    t.regex(finding?.message ?? '', /chain FORWARD of the host's table ip filter drops by default/)
    t.regex(finding?.advice ?? '', /^accept what is forwarded from and to/)
    t.deepEqual(more, [])
  },
)

test('a port in use and an address of somebody else are told apart', async (t) => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close())
  const { port } = server.address() as AddressInfo
  const look = (listenAddress: string): Promise<Finding> =>
    run(networkChecks({ listenAddress }), 'mesh port')
  t.is((await look(`127.0.0.1:${port}`)).level, 'warn')
  t.is((await look('192.0.2.77:2377')).level, 'fail')
})

test('data in memory fails, a slow disk is warned of', async (t) => {
  const dataDirectory = '/dev/shm'
  const room = await run(storageChecks({ clock: systemClock }, { dataDirectory }), 'data directory')
  t.is(room.level, 'fail')
  let nowMs = 0
  const slow: Clock = { ...systemClock, monotonicMs: () => (nowMs += 40) }
  const place = await directory(t)
  const checks = storageChecks({ clock: slow }, { dataDirectory: place })
  const latency = await run(checks, 'disk latency')
  t.regex(latency.message, /median 40\.0 ms/)
  t.is(latency.level, 'warn')
  t.is(worstLevel([room, latency]), 'fail')
})

test('settings that keep a node from working are told: read-only, or too few connections', async (t) => {
  const root = await directory(t)
  const look = (): Promise<Finding> =>
    run(networkChecks({ listenAddress: '127.0.0.1:0' }, { proc: root }), 'kernel settings')
  const isRoot = process.getuid?.() === 0
  t.is((await look()).level, isRoot ? 'fail' : 'pass')
  await mkdir(join(root, 'sys/net/ipv4/conf/all'), { recursive: true })
  await mkdir(join(root, 'sys/net/netfilter'), { recursive: true })
  await writeFile(join(root, 'sys/net/ipv4/ip_forward'), '0\n')
  t.like(await look(), { level: 'pass' })
  t.regex((await look()).message, /will be told to forward/)
  await writeFile(join(root, 'sys/net/netfilter/nf_conntrack_max'), '1024\n')
  t.like(await look(), { level: 'warn', message: 'the kernel tracks 1024 connections at most' })
  const layers = hostChecks(
    { clock: systemClock },
    { proc: root, sys: root, etc: root, path: root },
  )
  t.is((await run(layers, 'layers')).level, 'warn')
  await writeFile(join(root, 'filesystems'), 'nodev\toverlay\n')
  t.is((await run(layers, 'layers')).level, 'pass')
})
