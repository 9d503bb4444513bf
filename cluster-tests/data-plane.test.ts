/**
 * The kernel's data plane with real daemons and real containers: three hosts as network namespaces
 * and a client outside. What the kernel offers is used (IPVS, else nftables); everything is asked
 * from where users ask: outside, a host, a container of the same and of another network, and a
 * replica that reaches itself.
 */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { api, skeinOk, until } from './harness/daemon.ts'
import { HostSwarm, TestHosts } from './harness/hosts.ts'
import { IMAGE, type TaskJson } from './harness/swarm.ts'
import { namespaceOf, resolve } from './harness/task-names.ts'
import { nodeIdOf } from './harness/web.ts'

const PORT = 8079
const CLIENT = 3
const REPLICAS = 6

/** Prints who asks, then its own host name. */
const WHO = `mkdir -p /tmp/w/cgi-bin; printf '#!/bin/sh\\necho; echo $REMOTE_ADDR $(hostname)\\n' > /tmp/w/cgi-bin/who; chmod +x /tmp/w/cgi-bin/who; httpd -f -p 80 -h /tmp/w & trap 'exit 0' TERM; wait`

const isPossible = process.getuid?.() === 0 && existsSync('/usr/sbin/nft')
const kernelTest = isPossible ? test.serial : test.serial.skip

interface Answers {
  readonly ok: Map<string, number>
  readonly failed: number
}

/** Asks `url` from a namespace `times` times, each by a connection of its own. */
async function ask(namespace: string, url: string, times: number): Promise<Answers> {
  const ok = new Map<string, number>()
  let failed = 0
  for (let i = 0; i < times; i += 1) {
    const words = [...TestHosts.inside(namespace).slice(1), 'curl', '-s', '-m', '3', url]
    try {
      const { stdout } = await promisify(execFile)('nsenter', words)
      ok.set(stdout.trim(), (ok.get(stdout.trim()) ?? 0) + 1)
    } catch {
      failed += 1
    }
  }
  return { ok, failed }
}

/** Requests without pause from outside to a host until `stop`. */
function load(
  hosts: TestHosts,
  host: number,
): { stop(): Promise<{ asked: number; failed: number }> } {
  const over = new AbortController()
  const url = `http://${hosts.addresses[host]}:${PORT}/`
  const loop = (async () => {
    let asked = 0
    let failed = 0
    while (!over.signal.aborted) {
      const { failed: missed } = await ask(hosts.names[CLIENT] ?? '', url, 1)
      asked += 1
      failed += missed
    }
    return { asked, failed }
  })()
  return {
    stop() {
      over.abort()
      return loop
    },
  }
}

/** Fails when anything answers. */
async function assertSilent(t: ExecutionContext, task: TaskJson, url: string): Promise<void> {
  const { ok } = await ask(namespaceOf(task), url, 1)
  t.is(ok.size, 0, `${url} answers ${task.ID}`)
}

async function tasksOf(swarm: HostSwarm, service: string): Promise<TaskJson[]> {
  const filters = encodeURIComponent(JSON.stringify({ service: { [service]: true } }))
  const tasks = (await api(swarm.node(0).socket, 'GET', `/tasks?filters=${filters}`)) as TaskJson[]
  return tasks.filter((task) => task.Status.State === 'running' && task.DesiredState === 'running')
}

interface Places {
  readonly ownWeb: TaskJson
  readonly ownDb: TaskJson
  readonly ownGate: TaskJson
}

async function checkNames(t: ExecutionContext, { ownWeb, ownGate }: Places): Promise<void> {
  const [vip = ''] = resolve(ownWeb, 'web')
  const itself = await ask(namespaceOf(ownWeb), `http://${vip}/`, 6 * REPLICAS)
  t.is(itself.failed, 0, 'a replica reaches its service, and itself')
  t.is(itself.ok.size, REPLICAS)
  t.is(resolve(ownWeb, 'tasks.web').length, REPLICAS)
  t.deepEqual(resolve(ownWeb, 'db'), [], 'a name of another network')
  t.is(resolve(ownGate, 'db').length, 1)
  const [dbVip = ''] = resolve(ownGate, 'db')
  t.is((await ask(namespaceOf(ownGate), `http://${dbVip}/`, 4)).failed, 0)
}

async function checkIsolation(
  t: ExecutionContext,
  hosts: TestHosts,
  { ownWeb, ownDb, ownGate }: Places,
): Promise<void> {
  const client = hosts.names[CLIENT] ?? ''
  const [vip = ''] = resolve(ownWeb, 'web')
  const [dbVip = ''] = resolve(ownGate, 'db')
  const [dbAddress = ''] = resolve(ownDb, 'tasks.db')
  await assertSilent(t, ownWeb, `http://${dbVip}/`)
  await assertSilent(t, ownWeb, `http://${dbAddress}/`)
  await assertSilent(t, ownDb, `http://${vip}/`)
  await assertSilent(t, ownWeb, `http://${vip}:2377/`)
  await assertSilent(t, ownWeb, `http://${vip.replace(/\d+$/, '200')}/`)
  for (const address of [vip, dbVip, dbAddress]) {
    hosts.run(CLIENT, 'ip', 'route', 'replace', `${address}/32`, 'via', hosts.addresses[0] ?? '')
    t.is((await ask(client, `http://${address}/`, 1)).ok.size, 0, `${address} from outside`)
  }
}

kernelTest('containers, hosts and clients outside reach services, and nothing else', async (t) => {
  using hosts = new TestHosts('skt-d', '172.31.79', 4)
  await using swarm = await HostSwarm.formed(hosts, 3)
  const first = swarm.node(0)
  const driver = await driverOf(swarm)
  t.log(`driver: ${driver}`)
  t.true(['ipvs', 'nftables'].includes(driver))
  for (const name of ['front', 'back']) await skeinOk(first, 'network', 'create', name)
  const create = ['service', 'create', '--detach', '--restart-delay', '0s']
  const front = ['--name', 'web', '--network', 'front', '--publish', `${PORT}:80`]
  await skeinOk(first, ...create, ...front, '--replicas', String(REPLICAS), IMAGE)
  const back = ['--name', 'db', '--network', 'back', '--replicas', '2']
  await skeinOk(first, ...create, ...back, IMAGE)
  const both = ['--name', 'api', '--network', 'front', '--network', 'back', '--replicas', '1']
  await skeinOk(first, ...create, ...both, IMAGE)
  await swarm.untilRunning(first, REPLICAS + 3, 60_000)
  const [web, db, gate] = await Promise.all(
    ['web', 'db', 'api'].map((name) => tasksOf(swarm, name)),
  )
  const [ownWeb, ownDb, ownGate] = [web?.[0], db?.[0], gate?.[0]]
  if (ownWeb === undefined || ownDb === undefined || ownGate === undefined) throw new Error('tasks')
  const client = hosts.names[CLIENT] ?? ''
  for (const address of hosts.addresses.slice(0, 3)) {
    const url = `http://${address}:${PORT}/`
    const { ok, failed } = await ask(client, url, 10 * REPLICAS)
    t.is(failed, 0, url)
    t.is(ok.size, REPLICAS, 'every replica answers through every host')
    for (const count of ok.values()) t.true(count >= 2, `${count} of ${10 * REPLICAS}`)
    t.is((await ask(hosts.names[0] ?? '', url, 10)).failed, 0, `from a host: ${url}`)
    t.is((await ask(namespaceOf(ownWeb), url, 10)).failed, 0, `from a container: ${url}`)
  }
  t.is((await ask(hosts.names[0] ?? '', `http://127.0.0.1:${PORT}/`, 5)).failed, 0)

  await checkNames(t, { ownWeb, ownDb, ownGate })
  await checkIsolation(t, hosts, { ownWeb, ownDb, ownGate })

  for (const daemon of swarm.daemons.slice(1)) await skeinOk(daemon, 'swarm', 'leave', '--force')
  const left = hosts.run(
    2,
    'sh',
    '-c',
    'ip -br link; ip rule; ip route show table all; nft list tables',
  )
  t.notRegex(left, /\bs[kv][0-9a-z]{8}\b|skein_|proto 83/, 'nothing stays when a node leaves')
})

kernelTest(
  'no request fails while replicas come, go and change, and daemons restart',
  async (t) => {
    using hosts = new TestHosts('skt-d', '172.31.79', 4)
    await using swarm = await HostSwarm.formed(hosts, 3)
    const first = swarm.node(0)
    const create = ['service', 'create', '--detach', '--restart-delay', '0s', '--name', 'web']
    const paced = ['--update-delay', '1s', '--update-order', 'start-first']
    const publish = ['--publish', `${PORT}:80`, '--replicas', '3', ...paced]
    const grace = ['--stop-grace-period', '5s']
    await skeinOk(first, ...create, ...publish, ...grace, '--entrypoint', 'sh', IMAGE, '-c', WHO)
    await swarm.untilRunning(first, 3, 60_000)
    const who = `http://${hosts.addresses[1]}:${PORT}/cgi-bin/who`
    await until('the replicas to serve', async () => {
      const { ok, failed } = await ask(hosts.names[CLIENT] ?? '', who, 12)
      const sources = new Set([...ok.keys()].map((answer) => /[\d.]+\.\d+/.exec(answer)?.[0]))
      if (failed > 0 || ok.size !== 3) return false
      t.deepEqual([...sources], [hosts.addresses[CLIENT]], 'each replica sees the client itself')
      return true
    })

    const clients = [0, 1, 2].map((host) => load(hosts, host))
    await skeinOk(first, 'service', 'scale', '--detach', 'web=6')
    await swarm.untilRunning(first, 6, 60_000)
    await skeinOk(first, 'service', 'scale', '--detach', 'web=3')
    await until('three to be left', async () => (await tasksOf(swarm, 'web')).length === 3)
    await replaceAll(swarm)
    await emptyHost(swarm, 2)
    await sleep(1_000)
    for (const daemon of swarm.daemons) {
      await daemon.kill('SIGTERM')
      await sleep(500)
      await daemon.start()
      await sleep(1_500)
    }
    const results = await Promise.all(clients.map((client) => client.stop()))
    for (const [host, { asked, failed }] of results.entries()) {
      t.log(`host ${host + 1}: ${asked} requests, ${failed} failed`)
      t.true(asked > 20)
      t.is(failed, 0)
    }
  },
)

/** Replaces all replicas, one after the other. */
async function replaceAll(swarm: HostSwarm): Promise<void> {
  const { socket } = swarm.node(0)
  const before = new Set((await tasksOf(swarm, 'web')).map((task) => task.ID))
  const service = (await api(socket, 'GET', '/services/web')) as {
    readonly Version: { readonly Index: number }
    readonly Spec: { readonly TaskTemplate: object }
  }
  const { Spec: spec, Version: version } = service
  const body = { ...spec, TaskTemplate: { ...spec.TaskTemplate, ForceUpdate: 1 } }
  await api(socket, 'POST', `/services/web/update?version=${version.Index}`, body)
  const isDone = async (): Promise<boolean> => {
    const tasks = await tasksOf(swarm, 'web')
    return tasks.length === 3 && tasks.every((task) => !before.has(task.ID))
  }
  await until('three new replicas', isDone, 90_000)
}

/** Drains a host and waits until nothing is left there. */
async function emptyHost(swarm: HostSwarm, host: number): Promise<void> {
  const id = await nodeIdOf(swarm.node(host))
  await skeinOk(swarm.node(0), 'node', 'update', '--availability', 'drain', id)
  await until('the drained host to be empty', async () => {
    const tasks = await tasksOf(swarm, 'web')
    return tasks.length === 3 && tasks.every((task) => task.NodeID !== id)
  })
}

async function driverOf(swarm: HostSwarm): Promise<string> {
  const info = (await api(swarm.node(0).socket, 'GET', '/info')) as {
    readonly DriverStatus: readonly (readonly [string, string])[]
  }
  return info.DriverStatus.find(([name]) => /balancer/i.test(name))?.[1] ?? ''
}
