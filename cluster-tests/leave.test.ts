/**
 * A node that leaves its swarm leaves its host as it was: rules, devices, routes, settings, files
 * of namespaces, mounts and control groups, compared as text before and after. Also when the
 * daemon was killed in between, and when it is purged. Real daemons and containers in hosts of
 * their own.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import test from 'ava'
import { SKEIN, run, skeinOk, until } from './harness/daemon.ts'
import type { Daemon } from './harness/daemon.ts'
import { HostSwarm, TestHosts } from './harness/hosts.ts'
import { IMAGE } from './harness/swarm.ts'

const isPossible = process.getuid?.() === 0 && existsSync('/usr/sbin/nft')
const kernelTest = isPossible ? test.serial : test.serial.skip

/** What a host has of each kind; entries that the kernel learns and forgets by itself left out. */
const COMMANDS: Readonly<Record<string, string>> = {
  rules: 'nft list ruleset',
  devices: 'ip -details link',
  addresses: 'ip address',
  routes: 'ip route show table all; ip -6 route show table all',
  policies: 'ip rule; ip -6 rule',
  neighbours: 'ip neigh show nud permanent; ip neigh show proxy; ip -6 neigh show nud permanent',
  forwarding: 'bridge fdb show',
  settings: 'sysctl -a -r "^net\\." 2>/dev/null | grep -v nf_conntrack_count',
}

/** The host as text, by kind. */
function stateOf(hosts: TestHosts, index: number, daemon: Daemon): Record<string, string> {
  const entries = Object.entries(COMMANDS).map(([kind, command]) => {
    return [kind, hosts.run(index, 'sh', '-c', command)] as const
  })
  const { dataDirectory } = daemon
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n')
  return {
    ...Object.fromEntries(entries),
    mounts: mounts.filter((line) => line.includes(dataDirectory)).join('\n'),
  }
}

/** Lines that only one of two states has: `-` was there before, `+` is there now. */
function difference(before: Record<string, string>, now: Record<string, string>): string[] {
  return Object.keys(before).flatMap((kind) => {
    const [had, has] = [before[kind]?.split('\n') ?? [], now[kind]?.split('\n') ?? []]
    return [
      ...had.filter((line) => !has.includes(line)).map((line) => `${kind} - ${line}`),
      ...has.filter((line) => !had.includes(line)).map((line) => `${kind} + ${line}`),
    ]
  })
}

/** Namespaces and control groups of tasks on this machine, which all hosts share. */
function sharedTraces(tasks: readonly string[]): string[] {
  const places = ['/run/netns', '/sys/fs/cgroup', '/sys/fs/cgroup/skein']
  const names = places.flatMap((place) => (existsSync(place) ? readdirSync(place) : []))
  return names.filter((name) => tasks.some((task) => name.includes(task)))
}

kernelTest('a node that leaves leaves its host as it was, also after a crash', async (t) => {
  using hosts = new TestHosts('skt-l', '172.31.83', 2)
  for (const index of [0, 1]) {
    // Settings that go back wrong when forwarding alone is switched off again.
    hosts.run(index, 'sh', '-c', 'echo 0 >/proc/sys/net/ipv4/ip_forward')
    hosts.run(index, 'sh', '-c', 'echo 1 >/proc/sys/net/ipv4/conf/eth0/forwarding')
    hosts.run(index, 'sh', '-c', 'echo 0 >/proc/sys/net/ipv4/conf/all/accept_redirects')
    hosts.run(index, 'nft', 'add table ip bystander')
    const addresses = (): string => hosts.run(index, 'ip', 'address')
    await until('addresses', () => Promise.resolve(!addresses().includes('tentative')))
  }
  await using swarm = new HostSwarm(hosts)
  const [first, second] = [swarm.node(0), swarm.node(1)]
  const before = [stateOf(hosts, 0, first), stateOf(hosts, 1, second)]
  const changes = (index: 0 | 1): string[] => {
    const daemon = swarm.node(index)
    return difference(before[index] ?? {}, stateOf(hosts, index, daemon))
  }
  await swarm.start()
  await swarm.form(1)
  await swarm.loadImage(first)
  await skeinOk(first, 'network', 'create', '--ipv6', 'front')
  const create = ['service', 'create', '--detach', '--mode', 'global', '--network', 'front']
  await skeinOk(first, ...create, '--name', 'web', '--publish', '8079:80', IMAGE)
  const tasks = await swarm.untilRunning(first, 2, 60_000)
  const ids = tasks.map((task) => task.ID)
  t.is(sharedTraces(ids).length > 0, true, 'a task leaves traces while it runs')
  t.true(changes(1).includes('settings + net.ipv4.ip_forward = 1'))

  await skeinOk(second, 'swarm', 'leave')
  t.deepEqual(changes(1), [], 'after leaving')

  await swarm.join(second, 'worker')
  await swarm.untilRunning(first, 2, 60_000)
  await second.kill()
  await second.start()
  await skeinOk(second, 'swarm', 'leave')
  t.deepEqual(changes(1), [], 'after a crash and leaving')

  await swarm.join(second, 'worker')
  await swarm.untilRunning(first, 2, 60_000)
  await second.kill()
  const { listenAddress } = second.options
  const { dataDirectory } = second
  const place = ['--data-dir', dataDirectory, '--listen-addr', listenAddress]
  const [file, ...words] = [...TestHosts.inside(hosts.names[1] ?? ''), SKEIN]
  const purged = await run(file, [...words, 'daemon', '--purge', ...place])
  t.is(purged.code, 0, purged.stderr)
  t.deepEqual(changes(1), [], 'after a crash and a purge')

  const last = await swarm.running(first)
  await skeinOk(first, 'swarm', 'leave', '--force')
  t.deepEqual(changes(0), [], 'after the last one left')
  const all = [...ids, ...last.map((task) => task.ID)]
  await until('no traces', () => Promise.resolve(sharedTraces(all).length === 0))
})
