/** What outlives the agent: tasks that it finds again, and what it did while it was alone. */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { chmod, chown, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { successorTaskId } from '../store/restart-policy.ts'
import type { TaskSpec } from '../store/spec.ts'
import { markProcess } from './process-mark.ts'
import type { DaemonArguments } from './testing/agent-daemon.ts'
import { TestCluster } from './testing/test-cluster.ts'
import { AgentGround, AT_ONCE, NEVER, collect, until } from './testing/agent-world.ts'

const ground = await AgentGround.prepare('adoption', '10.213.44')
const real = ground.test

/** An ordinary user; Debian's `nobody`. */
const NOBODY = 65_534

real('a restarted agent adopts what runs without touching it', async (t) => {
  const world = await ground.world(t)
  const id = await world.run({ script: 'sleep 600' })
  const { status } = await world.cluster.untilState(id, 'running')
  const mark = markProcess(status.container?.pid ?? 0)
  await world.restart()
  await until(() => world.agent.containerCounts().running === 1, 'adoption')
  t.deepEqual(markProcess(status.container?.pid ?? 0), mark)
  t.deepEqual(world.cluster.task(id).status, status)
})

real('an exit while no agent ran is found with its code', async (t) => {
  const world = await ground.world(t)
  const script = 'echo up; while [ ! -e /tmp/go ]; do sleep 0.05; done; exit 23'
  const id = await world.run({ script, RestartPolicy: NEVER })
  const { status } = await world.cluster.untilState(id, 'running')
  await world.agent.stop()
  const pid = status.container?.pid ?? 0
  await writeFile(`/proc/${pid}/root/tmp/go`, '')
  await until(() => markProcess(pid) === undefined, 'its end')
  await world.restart()
  const failed = await world.cluster.untilState(id, 'failed')
  t.is(failed.status.err, 'task: non-zero exit (23)')
})

real(
  'a container that was lost with its monitor is failed and restarted, as after a reboot',
  async (t) => {
    const world = await ground.world(t)
    const id = await world.run({ script: 'sleep 600', RestartPolicy: AT_ONCE })
    const { status } = await world.cluster.untilState(id, 'running')
    await world.agent.stop()
    const directory = join(world.dataDirectory, 'tasks', id)
    const monitor = Number(readFileSync(join(directory, 'monitor.pid'), 'utf8'))
    process.kill(monitor, 'SIGKILL')
    process.kill(status.container?.pid ?? 0, 'SIGKILL')
    await until(() => markProcess(status.container?.pid ?? 0) === undefined, 'its end')
    await world.restart()
    const failed = await world.cluster.untilState(id, 'failed')
    t.regex(failed.status.err ?? '', /exit code unknown/)
    await world.cluster.untilState(successorTaskId(id), 'running')
  },
)

real('restarts happen without any leader, in a chain, and are told in order later', async (t) => {
  const world = await ground.world(t)
  const id = await world.run({ script: 'sleep 600', RestartPolicy: AT_ONCE })
  await world.cluster.untilState(id, 'running')
  world.cluster.partitioned = true
  let current = id
  for (let round = 0; round < 3; round += 1) {
    const directory = join(world.dataDirectory, 'tasks', current)
    await until(() => existsSync(join(directory, 'started')), `round ${round} started`)
    await until(() => world.agent.containerCounts().running === 1, `round ${round} running`)
    process.kill(Number(readFileSync(join(directory, 'pid'), 'utf8')), 'SIGKILL')
    current = successorTaskId(current)
  }
  const last = join(world.dataDirectory, 'tasks', current, 'started')
  await until(() => existsSync(last), 'the last successor')
  t.is(world.cluster.store.list('tasks').length, 1)
  world.cluster.partitioned = false
  await until(() => world.cluster.store.get('tasks', current) !== undefined, 'the chain')
  const task = await world.cluster.untilState(current, 'running')
  t.is(task.attempt, 3)
  const states = world.cluster.store.list('tasks').map((each) => each.status.state)
  t.deepEqual(states.toSorted(), ['failed', 'failed', 'failed', 'running'])
})

real('a local successor survives a restart of the agent in a partition', async (t) => {
  const world = await ground.world(t)
  const id = await world.run({ script: 'sleep 600', RestartPolicy: AT_ONCE })
  const { status } = await world.cluster.untilState(id, 'running')
  world.cluster.partitioned = true
  process.kill(status.container?.pid ?? 0, 'SIGKILL')
  const directory = join(world.dataDirectory, 'tasks', successorTaskId(id))
  await until(() => existsSync(join(directory, 'started')), 'successor')
  await until(() => world.agent.containerCounts().running === 1, 'successor runs')
  const mark = markProcess(Number(readFileSync(join(directory, 'pid'), 'utf8')))
  await world.restart()
  await until(() => world.agent.containerCounts().running === 1, 'adopted')
  world.cluster.partitioned = false
  await until(() => world.cluster.store.get('tasks', successorTaskId(id)) !== undefined, 'told')
  const task = await world.cluster.untilState(successorTaskId(id), 'running')
  t.is(task.status.container?.pid, mark?.pid)
  t.deepEqual(markProcess(mark?.pid ?? 0), mark)
})

real('a replica that is behind does not cost a task its life', async (t) => {
  const world = await ground.world(t)
  const id = await world.run({ script: 'sleep 600' })
  const { status } = await world.cluster.untilState(id, 'running')
  await world.agent.stop()
  const mark = markProcess(status.container?.pid ?? 0)
  const behind = new TestCluster()
  await behind.begin(ground.nodeId, ground.subnet)
  const later = await ground.world(t, behind, world.dataDirectory)
  await until(() => later.agent.containerCounts().running === 1, 'adoption')
  t.deepEqual(markProcess(status.container?.pid ?? 0), mark)
  // Once it is as new as the record and still knows no such task, the task is gone.
  while (behind.store.index < world.cluster.store.index) behind.store.skip(behind.store.index + 1)
  behind.store.load(behind.store.image())
  await until(() => !existsSync(join(world.dataDirectory, 'tasks', id)), 'cleaned up')
})

for (const wanted of ['auto', 'process'] as const) {
  real(`SIGKILL of the daemon costs no task; another adopts it (${wanted})`, async (t) => {
    const dataDirectory = await mkdtemp(join(ground.base, 'killed-'))
    const script = 'while [ ! -e /tmp/go ]; do sleep 0.05; done; exit 31'
    const spec: TaskSpec = {
      ContainerSpec: { Image: 'busybox:1', Command: ['sh', '-c', script] },
      RestartPolicy: NEVER,
    }
    const address = ground.nextAddress()
    const given: DaemonArguments = {
      nodeId: ground.nodeId,
      dataDirectory,
      rootfs: ground.rootfs,
      subnet: ground.subnet,
      address,
      wanted,
      spec,
    }
    const program = join(import.meta.dirname, 'testing/agent-daemon.ts')
    const daemon = spawn(process.execPath, [program, JSON.stringify(given)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.teardown(() => daemon.kill('SIGKILL'))
    const [line = ''] = await collect(firstLine(daemon.stdout))
    const { id, pid } = JSON.parse(line) as { id: string; pid: number }
    const mark = markProcess(pid)
    t.truthy(mark)
    const dead = new Promise((resolve) => {
      daemon.once('exit', resolve)
    })
    daemon.kill('SIGKILL')
    await dead

    const cluster = new TestCluster()
    await cluster.begin(ground.nodeId, ground.subnet)
    const again = await ground.chooseExecutor(dataDirectory, wanted)
    const agent = await ground.start(cluster, dataDirectory, again)
    t.teardown(() => agent.removeAll())
    await until(() => agent.containerCounts().running === 1, 'adoption')
    t.deepEqual(markProcess(pid), mark)
    await writeFile(`/proc/${pid}/root/tmp/go`, '')
    await until(() => agent.containerCounts().running === 0, 'its end')
    const exits = join(dataDirectory, 'tasks', id, 'exits')
    t.true((await readdir(exits)).includes(id))
    t.is(Number(readFileSync(join(exits, id), 'utf8')), 31)
  })
}

real('a daemon without root runs the image’s program as a process of its user', async (t) => {
  const home = await mkdtemp(join(tmpdir(), 'skein-agent-user-'))
  await chown(home, NOBODY, NOBODY)
  await chmod(ground.base, 0o755)
  const given: DaemonArguments = {
    nodeId: ground.nodeId,
    dataDirectory: home,
    rootfs: ground.rootfs,
    subnet: ground.subnet,
    address: ground.nextAddress(),
    wanted: 'auto',
    spec: { ContainerSpec: { Image: 'busybox:1', Command: ['sleep', '600'] } },
  }
  const program = join(import.meta.dirname, 'testing/agent-daemon.ts')
  const daemon = spawn(process.execPath, [program, JSON.stringify(given)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    uid: NOBODY,
    gid: NOBODY,
  })
  let pid = 0
  t.teardown(async () => {
    daemon.kill('SIGKILL')
    if (markProcess(pid) !== undefined) process.kill(pid, 'SIGKILL')
    // The monitor of the task may be writing how it ended.
    await rm(home, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 })
  })
  const [line = ''] = await collect(firstLine(daemon.stdout))
  pid = (JSON.parse(line) as { pid: number }).pid
  const uids = /^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  t.is(Number(uids?.[1]), NOBODY)
  // Between two programs of one process the kernel shows an empty command line.
  const commandLine = (): string => readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  await until(() => commandLine() === ['sleep', '600', ''].join('\0'), 'the program itself')
  t.pass()
})

async function* firstLine(stream: NodeJS.ReadableStream): AsyncGenerator<string> {
  for await (const line of createInterface({ input: stream })) {
    yield line
    return
  }
}
