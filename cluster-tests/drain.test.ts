/**
 * Replicas are replaced under load while a daemon stands still for moments, as on a host that
 * starves: its kernel goes on sending connections to replicas that are to stop, so these must live
 * until it has heard. Three hosts as network namespaces, and a client outside that asks all of them.
 */
import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { at } from '../src/base/assert.ts'
import { api, skeinOk, until } from './harness/daemon.ts'
import type { Daemon } from './harness/daemon.ts'
import { HostSwarm, TestHosts } from './harness/hosts.ts'
import { failureText } from './harness/load.ts'
import { startLoad } from './harness/load-process.ts'
import { IMAGE } from './harness/swarm.ts'

const PORT = 8079
const HOSTS = 3
const CLIENT = HOSTS
const REPLICAS = 6
/** Shorter than the life of a silent link, and four times what was once waited blindly. */
const FROZEN_MS = 1_000
const THAWED_MS = 700

/** Refuses new connections from its stop signal on, and ends those that it has. */
const GRACEFUL = `mkdir /tmp/w; hostname > /tmp/w/index.html; httpd -f -p 80 -h /tmp/w & h=$!; trap 'kill $h; sleep 1; exit 0' TERM; wait`

const isPossible = process.getuid?.() === 0 && existsSync('/usr/sbin/nft')
const kernelTest = isPossible ? test.serial : test.serial.skip

/** Lets a daemon stand still again and again until `over`. Gives how often, and how long at most. */
async function freezeAgainAndAgain(daemon: Daemon, over: AbortSignal) {
  let times = 0
  let longestMs = 0
  while (!over.aborted) {
    const beganMs = performance.now()
    daemon.signal('SIGSTOP')
    try {
      await sleep(FROZEN_MS)
    } finally {
      daemon.signal('SIGCONT')
    }
    longestMs = Math.max(longestMs, performance.now() - beganMs)
    times += 1
    await sleep(THAWED_MS)
  }
  return { times, longestMs }
}

/** Replaces all replicas, one after the other. */
async function replaceAll(swarm: HostSwarm): Promise<void> {
  const first = swarm.node(0)
  const before = new Set((await swarm.running(first)).map((task) => task.ID))
  await skeinOk(first, 'service', 'update', '--detach', '--force', 'web')
  const isDone = async (): Promise<boolean> => {
    const tasks = await swarm.running(first)
    return tasks.length === REPLICAS && tasks.every((task) => !before.has(task.ID))
  }
  await until('new replicas', isDone, 120_000)
}

kernelTest('no request fails through a host that stands still while replicas stop', async (t) => {
  using hosts = new TestHosts('skt-g', '172.31.86', HOSTS + 1)
  await using swarm = new HostSwarm(hosts, HOSTS)
  await swarm.start()
  // The host that stands still has no vote: it is the balancer that must not matter.
  await swarm.form(1)
  const [first, frozen] = [swarm.node(0), swarm.node(HOSTS - 1)]
  await swarm.loadImage(first)
  const create = ['service', 'create', '--detach', '--restart-delay', '0s', '--name', 'web']
  const publish = ['--publish', `${PORT}:80`, '--replicas', String(REPLICAS)]
  const paced = ['--update-delay', '0s', '--update-order', 'start-first']
  const run = ['--stop-grace-period', '5s', '--entrypoint', 'sh', IMAGE, '-c', GRACEFUL]
  await skeinOk(first, ...create, ...publish, ...paced, ...run)
  await swarm.untilRunning(first, REPLICAS, 60_000)
  const wrapper = TestHosts.inside(at(hosts.names, CLIENT))
  const options = { clients: 3, limitMs: 5_000, pauseMs: 5 }
  await until('all hosts to answer', () => {
    for (const host of hosts.addresses.slice(0, HOSTS)) {
      hosts.run(CLIENT, 'curl', '-sf', '-m', '3', '-o', '/dev/null', `http://${host}:${PORT}/`)
    }
    return Promise.resolve(true)
  })
  const loads = hosts.addresses.slice(0, HOSTS).map((host) => {
    return startLoad({ wrapper, host, port: PORT, options })
  })
  await Promise.all(loads.map(({ begun }) => begun))
  const over = new AbortController()
  const freezing = freezeAgainAndAgain(frozen, over.signal)
  try {
    await replaceAll(swarm)
  } finally {
    over.abort()
  }
  const { times, longestMs } = await freezing
  await sleep(500)
  const reports = await Promise.all(loads.map((load) => load.stop()))
  const info = (await api(first.socket, 'GET', '/info')) as { readonly DriverStatus: unknown }
  t.log(JSON.stringify(info.DriverStatus))
  t.log(`stood still ${times} times, ${Math.round(longestMs)} ms at most`)
  for (const [host, { requests, failures }] of reports.entries()) {
    t.log(`host ${host + 1}: ${requests} requests, ${failures.length} failed`)
    t.true(requests > 100)
    t.deepEqual(
      failures.map((failure) => failureText(failure)),
      [],
    )
  }
  t.true(times >= 2)
})
