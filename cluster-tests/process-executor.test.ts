/** Nodes without root and without a runtime: tasks are supervised processes, and all says so. */
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { skeinOk, until } from './harness/daemon.ts'
import { answers, fetchText } from './harness/http.ts'
import { IMAGE, TestSwarm } from './harness/swarm.ts'
import { createWeb, nodeIdOf, pids } from './harness/web.ts'

/** `nobody`, who owns nothing and may do nothing. */
const NOBODY = 65_534
const AS_NOBODY = [
  ...['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'],
  ...['--bounding-set=-all', '--no-new-privs'],
]

/** Daemons that may write in their own directories only. */
function unprivilegedSwarm(size: number, subnet: number): TestSwarm {
  const settings = { wrapper: AS_NOBODY, env: { HOME: '/nonexistent', XDG_CACHE_HOME: '' } }
  const swarm = new TestSwarm(
    size,
    subnet,
    Array.from({ length: size }, () => settings),
  )
  chmodSync(swarm.directory, 0o755)
  chownSync(swarm.directory, NOBODY, NOBODY)
  for (const daemon of swarm.daemons) {
    mkdirSync(daemon.dataDirectory)
    chownSync(daemon.dataDirectory, NOBODY, NOBODY)
  }
  return swarm
}

test.serial(
  'an unprivileged swarm serves a published port on both nodes, and says how',
  async (t) => {
    await using swarm = unprivilegedSwarm(2, 44)
    await swarm.start()
    await swarm.form(1)
    const first = swarm.node(0)
    const info = await skeinOk(first, 'info')
    t.log(/Executor.*\n.*/.exec(info)?.[0])
    t.regex(info, /Executor: process/)
    t.regex(info, /containers need root: this process is not root/)
    const tasks = await createWeb(swarm, 2, 8044)
    t.is(new Set(tasks.map((task) => task.NodeID)).size, 2, 'one replica a node')
    for (const daemon of swarm.daemons) {
      await until(`both replicas through ${daemon.host}`, async () => {
        return (await answers(daemon.host, 8044, 4)).size === 2
      })
    }
    const inspected = await skeinOk(first, 'node', 'inspect', 'self')
    t.regex(inspected, /"skein.executor": "process"/)
  },
)

test.serial(
  'a killed process is restarted by its node; its log stays; leaving cleans up',
  async (t) => {
    await using swarm = unprivilegedSwarm(2, 44)
    await swarm.start()
    await swarm.form(1)
    const [first, second] = [swarm.node(0), swarm.node(1)]
    const secondId = await nodeIdOf(second)
    const tasks = await createWeb(swarm, 2, 8044)
    const victim = tasks.find((task) => task.NodeID === secondId)
    process.kill(victim?.Status.ContainerStatus?.PID ?? 0, 'SIGKILL')
    await until('its successor on the same node', async () => {
      const running = await swarm.running(first)
      return (
        running.length === 2 &&
        running.some((one) => one.NodeID === secondId) &&
        running.every((one) => one.ID !== victim?.ID)
      )
    })
    t.regex(await skeinOk(first, 'service', 'ps', 'web'), /Failed/)
    await until('both answer', async () => (await answers(first.host, 8044, 4)).size === 2)

    await skeinOk(
      first,
      ...['service', 'create', '--detach', '--name', 'talker', '--restart-condition', 'none'],
      ...['--constraint', `node.id==${secondId}`, IMAGE, 'sh', '-c', 'echo spoken; exit 3'],
    )
    const talker = await until('the talker to end', async () => {
      return (await swarm.tasks(first)).find((one) => one.Status.ContainerStatus?.ExitCode === 3)
    })
    const output = join(second.dataDirectory, 'tasks', talker.ID, 'stdout.log')
    t.is(readFileSync(output, 'utf8'), 'spoken\n')

    await skeinOk(second, 'swarm', 'leave')
    t.false(existsSync(output))
    t.deepEqual(swarm.containerPids([second]), [], 'no process is left on the node that left')
    await until('both replicas on the first node', async () => {
      return (await swarm.running(first)).filter((one) => one.NodeID !== secondId).length === 2
    })
  },
)

test.serial('without a leader a restarted process answers on its new port', async (t) => {
  await using swarm = unprivilegedSwarm(2, 45)
  await swarm.start()
  await swarm.form(1)
  const [first, second] = [swarm.node(0), swarm.node(1)]
  await createWeb(swarm, 2, 8045)
  await first.kill('SIGKILL')
  const [before] = swarm.containerPids([second])
  process.kill(before ?? 0, 'SIGKILL')
  await until('its successor', async () => {
    const now = swarm.containerPids([second])
    return Promise.resolve(now.length === 1 && now[0] !== before)
  })
  await until('its own replica to answer', () => fetchText(second.host, 8045))
  await first.start()
  await swarm.untilReady(first, 2)
  for (const daemon of swarm.daemons) {
    await until('both answer', async () => (await answers(daemon.host, 8045, 4)).size === 2)
  }
  t.is((await swarm.running(first)).length, 2)
})

test.serial('a daemon crash touches no process; the new daemon adopts them', async (t) => {
  await using swarm = unprivilegedSwarm(1, 44)
  await swarm.start()
  await swarm.form(1)
  const daemon = swarm.node(0)
  const before = pids(await createWeb(swarm, 2, 8044))
  await daemon.kill('SIGKILL')
  await sleep(200)
  for (const pid of before) t.notThrows(() => process.kill(pid, 0), 'the process goes on')
  await daemon.start()
  t.deepEqual(pids(await swarm.untilRunning(daemon, 2)), before)
  await until('both answer', async () => (await answers(daemon.host, 8044, 4)).size === 2)
  process.kill(before[0] ?? 0, 'SIGKILL')
  await until('the death to be seen and mended', async () => {
    const running = await swarm.running(daemon)
    return running.length === 2 && !pids(running).includes(before[0] ?? 0)
  })
  t.regex(await fetchText(daemon.host, 8044), /^replica/)
})
