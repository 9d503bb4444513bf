import { spawn } from 'node:child_process'
import { mkdtemp } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { AddressInfo, Server } from 'node:net'
import { join } from 'node:path'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { delay, systemClock } from '../../base/clock.ts'
import type { Clock } from '../../base/clock.ts'
import { silentLogger } from '../../base/log.ts'
import type { TaskStatus } from '../../store/objects.ts'
import { successorTaskId } from '../../store/restart-policy.ts'
import type { HealthcheckSpec, RestartPolicy } from '../../store/spec.ts'
import type { Agent } from '../agent.ts'
import type { CheckResult, Executor } from '../ports.ts'
import { StartSlots } from '../start-slots.ts'
import { AgentGround, NEVER } from '../testing/agent-world.ts'
import { TestCluster } from '../testing/test-cluster.ts'
import { LISTEN_REST_MS_MAX, LISTEN_WAIT_MS_MAX, attend } from './attendant.ts'
import { HEALTH_DEFAULTS } from './health-check.ts'
import type { Readiness } from './readiness.ts'

const MS = 1_000_000
const ground = await AgentGround.prepare('health', '10.213.43', ['auto', 'process'])
const { executors } = ground

/** Time that passes ten times as fast. */
const fastClock: Clock = {
  monotonicMs: () => systemClock.monotonicMs() * 10,
  wallMs: () => systemClock.wallMs(),
  after: (delayMs, callback) => systemClock.after(delayMs / 10, callback),
}

interface Attendance {
  /** What was told, in order. */
  readonly told: string[]
  readonly details: Partial<TaskStatus>[]
  readonly ended: Promise<string | undefined>
}

/** Attends this process by the fast clock until the test ends. */
function attendance(
  t: ExecutionContext,
  readiness: Readiness,
  check: () => Promise<CheckResult> = () => Promise.reject(new Error('no check')),
): Attendance {
  const over = new AbortController()
  t.teardown(() => over.abort())
  const told: string[] = []
  const details: Partial<TaskStatus>[] = []
  const tell = (word: string) => (what: Partial<TaskStatus>) => {
    told.push(word)
    details.push(what)
    return Promise.resolve()
  }
  const wished = readiness.type === 'listen' ? readiness.wish.ports : []
  const ports = wished.map(({ port }) => ({ targetPort: port, hostPort: port }))
  const about = { id: 'x', directory: ground.base, pid: process.pid, ports, wasReady: false }
  const startedMs = fastClock.monotonicMs()
  const parts = { executor: { check }, clock: fastClock, log: silentLogger }
  const ended = attend(
    { ...parts, checkSlots: new StartSlots(1) },
    { ...about, readiness, startedMs, onWaiting: tell('waiting'), onReady: tell('ready') },
    over.signal,
  )
  return { told, details, ended }
}

function listenWish(...ports: readonly number[]): Readiness {
  const wanted = ports.map((port) => ({ protocol: 'tcp' as const, port }))
  return { type: 'listen', wish: { ports: wanted, enough: 'all' } }
}

async function listening(): Promise<Server & { readonly port: number }> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, () => resolve()))
  return Object.assign(server, { port: (server.address() as AddressInfo).port })
}

test('a program that never listens counts as running when the wait is over', async (t) => {
  const began = fastClock.monotonicMs()
  const about = attendanceOf(t, [1])
  await about.ended
  t.deepEqual(about.told, ['waiting', 'ready'])
  t.regex(about.details[0]?.message ?? '', /waits until it listens on/)
  t.regex(about.details[1]?.message ?? '', /does not listen on/)
  t.true(fastClock.monotonicMs() - began >= LISTEN_WAIT_MS_MAX)
})

test('once one port is listened on, the others have less time', async (t) => {
  const server = await listening()
  t.teardown(() => server.close())
  const began = fastClock.monotonicMs()
  const about = attendanceOf(t, [server.port, 1])
  await about.ended
  t.regex(about.details[1]?.message ?? '', /does not listen on 1\/tcp/)
  t.true(fastClock.monotonicMs() - began >= LISTEN_REST_MS_MAX)
  t.true(fastClock.monotonicMs() - began < LISTEN_WAIT_MS_MAX)
})

test('a program that listens already is ready without a word of waiting', async (t) => {
  const server = await listening()
  t.teardown(() => server.close())
  const about = attendanceOf(t, [server.port])
  await about.ended
  t.deepEqual([about.told, about.details], [['ready'], [{}]])
})

function attendanceOf(t: ExecutionContext, ports: readonly number[]): Attendance {
  return attendance(t, listenWish(...ports))
}

const CHECK: Readiness = {
  type: 'check',
  check: { ...HEALTH_DEFAULTS, intervalMs: 1_000, argv: ['true'] },
}

test('checks never overlap, also when one cannot be killed: each round fails', async (t) => {
  let runs = 0
  const stuck = (): Promise<CheckResult> => {
    runs += 1
    return Promise.resolve({ exitCode: undefined, output: 'killed', isGone: () => false })
  }
  const about = attendance(t, CHECK, stuck)
  t.is(await about.ended, 'unhealthy container: the last check cannot be killed')
  t.is(runs, 1)
  t.deepEqual(about.details, [{ health: 'starting' }])
})

test('what the last check printed is the reason, in one line of bounded length', async (t) => {
  const output = `no   connection\n\n${'x'.repeat(5_000)}`
  const about = attendance(t, CHECK, () =>
    Promise.resolve({ exitCode: 1, output, isGone: () => true }),
  )
  const reason = (await about.ended) ?? ''
  t.regex(reason, /^unhealthy container: no connection x+$/)
  t.true(reason.length < 250)
})

interface Wishes {
  readonly check?: HealthcheckSpec
  readonly restart?: RestartPolicy
  readonly tcp?: number
  readonly udp?: number
}

interface World {
  readonly cluster: TestCluster
  /** States and health that the store saw of a task, in order. */
  seen(id: string): string[]
  agent: Agent
  restart(): Promise<void>
  run(script: string, wishes?: Wishes): Promise<string>
}

async function makeWorld(t: ExecutionContext, executor: Executor): Promise<World> {
  const dataDirectory = await mkdtemp(join(ground.base, 'data-'))
  const cluster = new TestCluster()
  await cluster.begin(ground.nodeId, ground.subnet)
  const seen = new Map<string, string[]>()
  cluster.store.onCommit((commit) => {
    if (commit.type === 'restored') return
    for (const change of commit.changes) {
      if (change.table !== 'tasks' || change.after === undefined) continue
      const { state, health } = change.after.status
      const word = health === undefined ? state : `${state} ${health}`
      const words = seen.get(change.id) ?? []
      if (words.at(-1) !== word) seen.set(change.id, [...words, word])
    }
  })
  const make = (): Promise<Agent> => ground.start(cluster, dataDirectory, executor)
  const world: World = {
    cluster,
    seen: (id) => seen.get(id) ?? [],
    agent: await make(),
    async restart() {
      await this.agent.stop()
      this.agent = await make()
    },
    run(script, { check, restart = NEVER, tcp, udp } = {}) {
      const container = { Image: 'busybox:1', Command: ['sh', '-c', script], StopGracePeriod: 3e8 }
      const spec = {
        ContainerSpec: { ...container, ...(check === undefined ? {} : { Healthcheck: check }) },
        RestartPolicy: restart,
      }
      const target = { publishedPort: 0, publishMode: 'ingress' } as const
      const ports = [
        ...(tcp === undefined ? [] : [{ ...target, protocol: 'tcp', targetPort: tcp } as const]),
        ...(udp === undefined ? [] : [{ ...target, protocol: 'udp', targetPort: udp } as const]),
      ]
      return cluster.assign(ground.nodeId, spec, { address: ground.nextAddress(), ports })
    },
  }
  t.teardown(() => world.agent.removeAll())
  return world
}

/** A check of a file in the task's own root. */
function fileCheck(more: HealthcheckSpec = {}): HealthcheckSpec {
  const Test = ['CMD-SHELL', 'cat /tmp/well']
  return { Test, Interval: 50 * MS, Timeout: 5_000 * MS, Retries: 2, ...more }
}

const SLEEP = 'trap "exit 0" TERM; while :; do sleep 0.05; done'

for (const executor of executors) {
  const real = (
    title: string,
    body: (t: ExecutionContext, world: World) => Promise<void>,
  ): void => {
    test.serial(`${executor.name}: ${title}`, async (t) => body(t, await makeWorld(t, executor)))
  }

  real('a task runs when its first check has passed, not before', async (t, world) => {
    const check = fileCheck({ Retries: 1000 })
    const id = await world.run(`echo up; sleep 0.5; touch /tmp/well; ${SLEEP}`, { check })
    const task = await world.cluster.untilState(id, 'running')
    t.is(task.status.health, 'healthy')
    t.deepEqual(world.seen(id).slice(-2), ['starting starting', 'running healthy'])
  })

  real('a task that turns unhealthy says so, is stopped and succeeded', async (t, world) => {
    const restart = { Condition: 'on-failure', Delay: 0 } as const
    const script = `touch /tmp/well; (sleep 1; rm /tmp/well) & ${SLEEP}`
    const id = await world.run(script, { check: fileCheck(), restart })
    const failed = await world.cluster.untilState(id, 'failed')
    t.regex(failed.status.err ?? '', /^task: unhealthy container: cat: .*No such file/)
    t.deepEqual(world.seen(id).slice(-3), ['running healthy', 'running unhealthy', 'failed'])
    await world.cluster.untilState(successorTaskId(id), 'running')
  })

  real('a task that never gets well fails without having run', async (t, world) => {
    const id = await world.run('sleep 600', { check: fileCheck() })
    const failed = await world.cluster.untilState(id, 'failed')
    t.regex(failed.status.err ?? '', /^task: non-zero exit \(1(37|43)\): unhealthy container: cat/)
    t.true((failed.status.container?.exitCode ?? 0) > 128)
    t.false(world.seen(id).some((word) => word.startsWith('running')))
  })

  real(
    'a healthy task stays so over a restart of the agent, and is watched on',
    async (t, world) => {
      const check = fileCheck()
      const id = await world.run(`touch /tmp/well; (sleep 2; rm /tmp/well) & ${SLEEP}`, { check })
      await world.cluster.untilState(id, 'running')
      await world.restart()
      t.is(world.cluster.task(id).status.health, 'healthy')
      t.deepEqual(
        world.agent.tasks().map((task) => task.status.state === 'failed'),
        [false],
      )
      await world.cluster.untilState(id, 'failed')
      const words = world.seen(id)
      const since = words.slice(words.indexOf('running healthy'))
      t.deepEqual(since, ['running healthy', 'running unhealthy', 'failed'])
    },
  )

  real('a check that hangs delays neither its task’s end nor other tasks', async (t, world) => {
    const check = { Test: ['CMD', 'sleep', '600'], Interval: MS, StartPeriod: 3600e9 }
    const slow = await Promise.all(
      Array.from({ length: 3 }, () => world.run(SLEEP, { check: { ...check, StartInterval: MS } })),
    )
    await world.cluster.until(
      () => slow.every((id) => world.seen(id).includes('starting starting')),
      'three that are checked',
    )
    await delay(systemClock, 200)
    await world.cluster.untilState(await world.run(SLEEP), 'running')
    const before = systemClock.monotonicMs()
    for (const id of slow) await world.cluster.desire(id, 'shutdown')
    for (const id of slow) await world.cluster.untilState(id, 'shutdown')
    t.true(systemClock.monotonicMs() - before < 5_000)
  })

  real('a published port is waited for, and its program seen when it listens', async (t, world) => {
    const listen = 'sleep 0.7; nc -l -p ${SKEIN_PORT_80:-80} >/dev/null & '
    const id = await world.run(`${listen} ${SLEEP}`, { tcp: 80 })
    const began = systemClock.monotonicMs()
    const task = await world.cluster.untilState(id, 'running')
    t.true(systemClock.monotonicMs() - began > 500)
    t.is(task.status.message, 'started')
    t.true(world.seen(id).includes('starting'))
    await world.restart()
    t.is(world.cluster.task(id).status.state, 'running')
  })
}

const [containers] = executors
if (containers?.hasNetwork === true) {
  test.serial('a datagram port is waited for in the container’s own network', async (t) => {
    const world = await makeWorld(t, containers)
    const id = await world.run(SLEEP, { udp: 53 })
    await world.cluster.until(() => world.seen(id).length > 0 && pidOf(world, id) > 0, 'its start')
    await delay(systemClock, 500)
    t.is(world.cluster.task(id).status.state, 'starting')
    const bind = "require('dgram').createSocket('udp4').bind(53)"
    const argv = ['-t', String(pidOf(world, id)), '-n', process.execPath, '-e', bind]
    const program = spawn('nsenter', argv, { stdio: 'ignore' })
    t.teardown(() => program.kill())
    const { status } = await world.cluster.untilState(id, 'running')
    t.is(status.message, 'started')
  })
}

function pidOf(world: World, id: string): number {
  return world.cluster.store.get('tasks', id)?.status.container?.pid ?? 0
}
