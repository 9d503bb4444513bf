/**
 * Health and readiness with real daemons and containers under load: no connection is led to a
 * program that does not listen yet or is not well, by the kernel's balancers and by userspace.
 */
import { existsSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { api, skeinOk, until } from './harness/daemon.ts'
import { HostSwarm, TestHosts } from './harness/hosts.ts'
import { failureText } from './harness/load.ts'
import { startLoad } from './harness/load-process.ts'
import type { LoadProcess } from './harness/load-process.ts'
import { IMAGE, TestSwarm } from './harness/swarm.ts'

const PORT = 8081
const CLIENT = 3
const REPLICAS = 3

/** Listens three seconds after its start, and goes on for two when it is told to stop. */
const SLOW = `sleep 3; mkdir -p /tmp/w; echo "replica $(hostname)" > /tmp/w/index.html
httpd -f -p 80 -h /tmp/w & trap 'sleep 2; exit 0' TERM; wait`
/** Well when it answers, until somebody says otherwise; a version with `BAD` never is. */
const CHECK = 'test -z "$BAD" && test ! -e /tmp/ill && wget -q -O /dev/null localhost'

/** Where a swarm is asked from. */
interface Place {
  readonly swarm: TestSwarm
  /** Clients' wrapper and the addresses that they ask. */
  readonly wrapper: readonly string[]
  readonly addresses: readonly string[]
}

type Body = (t: ExecutionContext, place: Place) => Promise<void>

async function onKernel(t: ExecutionContext, body: Body): Promise<void> {
  using hosts = new TestHosts('skt-h', '172.31.81', CLIENT + 1)
  await using swarm = new HostSwarm(hosts, CLIENT)
  await swarm.start()
  await swarm.form(CLIENT)
  const wrapper = TestHosts.inside(hosts.names[CLIENT] ?? '')
  await body(t, { swarm, wrapper, addresses: hosts.addresses.slice(0, CLIENT) })
}

async function inUserspace(t: ExecutionContext, body: Body): Promise<void> {
  await using swarm = new TestSwarm(CLIENT, 81)
  await swarm.start()
  await swarm.form(CLIENT)
  await body(t, { swarm, wrapper: [], addresses: swarm.daemons.map((daemon) => daemon.host) })
}

async function createSlow({ swarm }: Place, ...flags: readonly string[]): Promise<void> {
  const first = swarm.node(0)
  await swarm.loadImage(first)
  const create = ['service', 'create', '--detach', '--name', 'web', '--restart-delay', '0s']
  const publish = ['--publish', `${PORT}:80`, '--replicas', String(REPLICAS)]
  const program = ['--entrypoint', 'sh', IMAGE, '-c', SLOW]
  await skeinOk(first, ...create, ...publish, ...flags, ...program)
  await swarm.untilRunning(first, REPLICAS, 60_000)
}

interface ServiceJson {
  readonly Version: { readonly Index: number }
  readonly Spec: { readonly TaskTemplate: { readonly ContainerSpec: object } }
  readonly UpdateStatus?: { readonly State: string; readonly Message: string }
}

function serviceOf({ swarm }: Place): Promise<ServiceJson> {
  return api(swarm.node(0).socket, 'GET', '/services/web') as Promise<ServiceJson>
}

/** Another version of the program: one more variable. */
async function update(place: Place, variable: string): Promise<void> {
  const { Spec: spec, Version: version } = await serviceOf(place)
  const { TaskTemplate: template } = spec
  const container = { ...template.ContainerSpec, Env: [variable] }
  const body = { ...spec, TaskTemplate: { ...template, ContainerSpec: container } }
  const path = `/services/web/update?version=${version.Index}`
  await api(place.swarm.node(0).socket, 'POST', path, body)
}

async function untilUpdate(place: Place, state: string): Promise<void> {
  await until(
    `an update that is ${state}`,
    async () => {
      const { UpdateStatus: status } = await serviceOf(place)
      return status?.State === state
    },
    120_000,
  )
}

function clock(): string {
  return new Date().toISOString()
}

/** Ends the clients; none may have met a failure. */
async function assertUnharmed(t: ExecutionContext, clients: readonly LoadProcess[]) {
  const reports = await Promise.all(clients.map((client) => client.stop()))
  for (const [index, { requests, failures, slowest: one }] of reports.entries()) {
    const slowest = `slowest ${Math.round(one?.lastedMs ?? 0)} ms`
    t.log(`node ${index + 1}: ${requests} requests, ${failures.length} failed, ${slowest}`)
    t.true(requests > 100)
    t.deepEqual(
      failures.map((failure) => failureText(failure)),
      [],
    )
  }
}

function loads({ wrapper, addresses }: Place): LoadProcess[] {
  return addresses.map((address) => startLoad({ wrapper, host: address, port: PORT }))
}

/** More replicas, then another version of all, while clients ask every node. */
async function scaleAndRoll(t: ExecutionContext, place: Place): Promise<void> {
  const { swarm } = place
  await createSlow(place, '--update-monitor', '1s')
  const clients = loads(place)
  await sleep(1_000)
  await skeinOk(swarm.node(0), 'service', 'scale', '--detach', `web=${2 * REPLICAS}`)
  await swarm.untilRunning(swarm.node(0), 2 * REPLICAS, 60_000)
  await sleep(500)
  await skeinOk(swarm.node(0), 'service', 'scale', '--detach', `web=${REPLICAS}`)
  await swarm.untilRunning(swarm.node(0), REPLICAS, 60_000)
  await update(place, 'VERSION=2')
  await untilUpdate(place, 'completed')
  await assertUnharmed(t, clients)
}

/** One replica gets ill while it still answers; then a version comes that is never well. */
function fallIll(action: 'pause' | 'rollback'): Body {
  return async (t, place) => {
    const { swarm } = place
    const check = ['--health-cmd', CHECK, '--health-interval', '500ms', '--health-retries', '2']
    const fast = ['--health-start-period', '6s', '--health-start-interval', '200ms']
    const careful = ['--update-monitor', '1s', '--update-failure-action', action]
    await createSlow(place, ...check, ...fast, ...careful)
    const clients = loads(place)
    await sleep(1_000)
    const [victim] = await swarm.running(swarm.node(0))
    const pid = victim?.Status.ContainerStatus?.PID ?? 0
    writeFileSync(`/proc/${pid}/root/tmp/ill`, '')
    const illSince = Date.now()
    const failed = await until('its end', async () => {
      const tasks = await swarm.tasks(swarm.node(0))
      return tasks.find((task) => task.ID === victim?.ID && task.Status.State === 'failed')
    })
    const tookMs = Date.now() - illSince
    t.log(`${clock()}: ended ${tookMs} ms after it fell ill: ${failed.Status.Err}`)
    t.regex(failed.Status.Err ?? '', /^task: (non-zero exit \(\d+\): )?unhealthy container/)
    const well = await swarm.untilRunning(swarm.node(0), REPLICAS, 60_000)
    t.true(well.every((task) => task.ID !== victim?.ID))
    t.log(`${clock()}: replaced`)
    await update(place, 'BAD=1')
    await untilUpdate(place, action === 'pause' ? 'paused' : 'rollback_completed')
    const { UpdateStatus: status } = await serviceOf(place)
    t.log(`${clock()}: ${status?.State}: ${status?.Message}`)
    const left = await swarm.running(swarm.node(0))
    t.is(left.length, action === 'pause' ? REPLICAS - 1 : REPLICAS)
    const before = new Set(well.map((task) => task.ID))
    t.is(left.filter((task) => before.has(task.ID)).length, REPLICAS - 1, 'one was tried')
    await assertUnharmed(t, clients)
  }
}

interface Kind {
  readonly name: string
  readonly run: (t: ExecutionContext, body: Body) => Promise<void>
  readonly isPossible: boolean
  readonly action: 'pause' | 'rollback'
}

const isRoot = process.getuid?.() === 0
const hasNft = isRoot && existsSync('/usr/sbin/nft')
const KINDS: readonly Kind[] = [
  { name: 'kernel', run: onKernel, isPossible: hasNft, action: 'rollback' },
  { name: 'userspace', run: inUserspace, isPossible: isRoot, action: 'pause' },
]

for (const { name, run, isPossible, action } of KINDS) {
  const kindTest = isPossible ? test.serial : test.serial.skip
  kindTest(`${name}: slow programs get no connection before they listen`, async (t) => {
    await run(t, scaleAndRoll)
  })
  kindTest(`${name}: an ill replica is replaced, and a version never well stopped`, async (t) => {
    await run(t, fallIll(action))
  })
}
