import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { chmod, chown, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { systemClock } from '../base/clock.ts'
import { newIdentifier } from '../base/identifiers.ts'
import { silentLogger } from '../base/log.ts'
import { systemRandom } from '../base/random.ts'
import { successorTaskId } from '../store/restart-policy.ts'
import type { RestartPolicy, TaskSpec } from '../store/spec.ts'
import { Agent } from './agent.ts'
import { chooseExecutor } from './choose-executor.ts'
import { networkNamespacePath } from './networking.ts'
import type { Executor } from './ports.ts'
import { markProcess } from './process-mark.ts'
import type { DaemonArguments } from './testing/agent-daemon.ts'
import { imageOf, makeRootfs, oneImage, rootfsRefusal } from './testing/rootfs.ts'
import { TestCluster } from './testing/test-cluster.ts'

const SUBNET = '10.213.42.0/24'
const nodeId = newIdentifier(systemRandom)
const swarm = { nodeId: () => nodeId, addressPools: () => [] }
const components = { clock: systemClock, random: systemRandom, log: silentLogger }
const base = await mkdtemp(join(tmpdir(), 'skein-agent-agent-'))
const rootfs = join(base, 'rootfs')
const refusal = process.getuid?.() === 0 ? rootfsRefusal() : 'not root'
let executor: Executor | undefined
if (refusal === undefined) {
  await mkdir(rootfs)
  await makeRootfs(rootfs)
  executor = await chooseExecutor(components, { dataDirectory: base, swarm })
}
const real = executor === undefined ? test.serial.skip : test.serial
if (refusal !== undefined) test.skip(`agents cannot run tasks here: ${refusal}`, (t) => t.pass())

test.after.always(async () => {
  await executor?.dispose()
  await rm(base, { recursive: true, force: true })
})

let nextHost = 10
function nextAddress(): string {
  nextHost += 1
  return `10.213.42.${nextHost}`
}

interface World {
  readonly cluster: TestCluster
  readonly dataDirectory: string
  /** The agent that runs now. */
  agent: Agent
  /** Stops the agent and starts another one over the same directory, as a restart of the daemon. */
  restart(): Promise<void>
  run(spec: Partial<TaskSpec> & { readonly script: string }): Promise<string>
}

async function makeWorld(
  t: ExecutionContext,
  cluster = new TestCluster(),
  directory?: string,
): Promise<World> {
  const dataDirectory = directory ?? (await mkdtemp(join(base, 'data-')))
  if (cluster.store.index === 0) await cluster.begin(nodeId, SUBNET)
  const make = async (): Promise<Agent> => {
    if (executor === undefined) throw new Error('no executor')
    const images = oneImage(imageOf(rootfs))
    const { store } = cluster
    const agent = new Agent(
      { ...components, store, proposer: cluster, images, executor },
      { nodeId, dataDirectory },
    )
    await agent.start()
    return agent
  }
  const world: World = {
    cluster,
    dataDirectory,
    agent: await make(),
    async restart() {
      await this.agent.stop()
      this.agent = await make()
    },
    run({ script, ...spec }) {
      const container = { Image: 'busybox:1', Command: ['sh', '-c', script], StopGracePeriod: 3e8 }
      const ContainerSpec = { ...container, ...spec.ContainerSpec }
      return cluster.assign(nodeId, { ...spec, ContainerSpec }, { address: nextAddress() })
    },
  }
  t.teardown(async () => {
    await world.agent.removeAll()
  })
  return world
}

/** An ordinary user; Debian's `nobody`. */
const NOBODY = 65_534

const NEVER: RestartPolicy = { Condition: 'none' }
const AT_ONCE: RestartPolicy = { Condition: 'any', Delay: 0 }

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = systemClock.monotonicMs() + 15_000
  while (!(await condition())) {
    if (systemClock.monotonicMs() > deadline) throw new Error(`not in time: ${what}`)
    await new Promise((resolve) => {
      setTimeout(resolve, 20)
    })
  }
}

async function collect<T>(values: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = []
  for await (const value of values) list.push(value)
  return list
}

async function logOf(world: World, taskId: string): Promise<string[]> {
  return (await collect(world.agent.readLogs(taskId))).map(({ line }) => line)
}

real('an assigned task is run and reported with its container', async (t) => {
  const world = await makeWorld(t)
  const id = await world.run({ script: 'echo hello; sleep 600' })
  const { status } = await world.cluster.untilState(id, 'running')
  t.is(status.message, 'started')
  t.is(status.container?.id, id)
  t.true(existsSync(`/proc/${status.container?.pid ?? 0}`))
  t.deepEqual(world.agent.containerCounts(), { running: 1, total: 1 })
  await until(async () => (await logOf(world, id)).includes('hello'), 'the log')
  const [line] = await collect(world.agent.readLogs(id))
  t.regex(line?.time ?? '', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}/)
})

real('exit codes become complete and failed', async (t) => {
  const world = await makeWorld(t)
  const good = await world.run({ script: 'exit 0', RestartPolicy: NEVER })
  const bad = await world.run({ script: 'exit 9', RestartPolicy: NEVER })
  await world.cluster.untilState(good, 'complete')
  const { status } = await world.cluster.untilState(bad, 'failed')
  t.is(status.err, 'task: non-zero exit (9)')
  t.is(status.container?.exitCode, 9)
})

real('a missing image and a missing mount source reject the task with the reason', async (t) => {
  const world = await makeWorld(t)
  const container = { Image: 'nothing:1' }
  const image = await world.run({ script: '', ContainerSpec: container, RestartPolicy: AT_ONCE })
  const rejected = await world.cluster.untilState(image, 'rejected')
  t.is(rejected.status.err, 'No such image: nothing:1')
  const Mounts = [{ Type: 'bind', Source: '/no/such', Target: '/x' }] as const
  const ContainerSpec = { Image: 'busybox:1', Mounts }
  const mount = await world.run({ script: '', ContainerSpec })
  const { status } = await world.cluster.untilState(mount, 'rejected')
  t.regex(status.err ?? '', /bind source path does not exist: \/no\/such/)
  t.is(world.cluster.store.get('tasks', successorTaskId(image)), undefined)
  t.false(existsSync(networkNamespacePath(mount)))
})

real('a desired shutdown stops the container and removal deletes its directory', async (t) => {
  const world = await makeWorld(t)
  const id = await world.run({ script: 'sleep 600' })
  const { status } = await world.cluster.untilState(id, 'running')
  await world.cluster.desire(id, 'shutdown')
  const ended = await world.cluster.untilState(id, 'shutdown')
  t.is(ended.status.container?.exitCode, 137)
  t.false(existsSync(`/proc/${status.container?.pid ?? 0}`))
  t.true(existsSync(join(world.dataDirectory, 'tasks', id)))
  await world.cluster.propose([{ type: 'remove', table: 'tasks', id }])
  await until(() => !existsSync(join(world.dataDirectory, 'tasks', id)), 'directory gone')
  t.deepEqual(world.agent.containerCounts(), { running: 0, total: 0 })
})

real('a task removed while it runs is stopped and cleaned up', async (t) => {
  const world = await makeWorld(t)
  const id = await world.run({ script: 'sleep 600' })
  const { status } = await world.cluster.untilState(id, 'running')
  await world.cluster.propose([{ type: 'remove', table: 'tasks', id }])
  await until(() => !existsSync(join(world.dataDirectory, 'tasks', id)), 'directory gone')
  t.false(existsSync(`/proc/${status.container?.pid ?? 0}`))
})

real('a task desired ready is prepared and waits until it may run', async (t) => {
  const world = await makeWorld(t)
  const ContainerSpec = { Image: 'busybox:1', Command: ['sleep', '600'], StopGracePeriod: 0 }
  const fields = { desiredState: 'ready', address: nextAddress() } as const
  const id = await world.cluster.assign(nodeId, { ContainerSpec }, fields)
  await world.cluster.untilState(id, 'ready')
  t.deepEqual(world.agent.containerCounts(), { running: 0, total: 1 })
  await world.cluster.desire(id, 'running')
  await world.cluster.untilState(id, 'running')
  t.pass()
})

real('many tasks at once are reported in few proposals', async (t) => {
  const world = await makeWorld(t)
  const before = world.cluster.proposals.length
  const script = 'trap "exit 0" TERM; while :; do sleep 0.1; done'
  const ids = await Promise.all(Array.from({ length: 8 }, () => world.run({ script })))
  await Promise.all(ids.map((id) => world.cluster.untilState(id, 'running')))
  const reports = world.cluster.proposals.length - before - ids.length
  t.true(reports < ids.length * 5, `${reports} proposals for ${ids.length} tasks`)
})

real('a restarted agent adopts what runs without touching it', async (t) => {
  const world = await makeWorld(t)
  const id = await world.run({ script: 'sleep 600' })
  const { status } = await world.cluster.untilState(id, 'running')
  const mark = markProcess(status.container?.pid ?? 0)
  await world.restart()
  await until(() => world.agent.containerCounts().running === 1, 'adoption')
  t.deepEqual(markProcess(status.container?.pid ?? 0), mark)
  t.deepEqual(world.cluster.task(id).status, status)
})

real('an exit while no agent ran is found with its code', async (t) => {
  const world = await makeWorld(t)
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
    const world = await makeWorld(t)
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

real('a task that ends is restarted here at once, with the same address', async (t) => {
  const world = await makeWorld(t)
  const script = 'ip -o -4 address show eth0 | grep -o "10[.0-9]*/24"; sleep 600'
  const id = await world.run({ script, RestartPolicy: AT_ONCE })
  const { status, address } = await world.cluster.untilState(id, 'running')
  process.kill(status.container?.pid ?? 0, 'SIGKILL')
  const successor = successorTaskId(id)
  const present = (): boolean => world.cluster.store.get('tasks', successor) !== undefined
  await world.cluster.until(present, 'a successor')
  const next = await world.cluster.untilState(successor, 'running')
  t.is(next.predecessor, id)
  t.is(next.attempt, 1)
  t.is(next.address, address)
  await until(async () => (await logOf(world, successor)).includes(`${address}/24`), 'address')
  const ended = world.cluster.task(id)
  t.is(ended.status.err, 'task: non-zero exit (137)')
  t.is(ended.desiredState, 'shutdown')
})

real('restarts happen without any leader, in a chain, and are told in order later', async (t) => {
  const world = await makeWorld(t)
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
  const world = await makeWorld(t)
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

real('a refused restart stops the successor and leaves no trace of it', async (t) => {
  const world = await makeWorld(t)
  const id = await world.run({ script: 'sleep 600', RestartPolicy: AT_ONCE })
  const { status } = await world.cluster.untilState(id, 'running')
  world.cluster.partitioned = true
  process.kill(status.container?.pid ?? 0, 'SIGKILL')
  const successor = join(world.dataDirectory, 'tasks', successorTaskId(id))
  await until(() => existsSync(join(successor, 'started')), 'successor')
  // The other side of the partition decided meanwhile that the task is not wanted here.
  const { meta, ...object } = world.cluster.task(id)
  const action = {
    type: 'update',
    table: 'tasks',
    object: { ...object, desiredState: 'shutdown' },
    version: meta.version,
  } as const
  const transaction = { requestId: newIdentifier(systemRandom), at: '', actions: [action] }
  world.cluster.store.applyTransaction(transaction, world.cluster.store.index + 1)
  world.cluster.partitioned = false
  await until(() => !existsSync(successor), 'successor gone')
  await world.cluster.untilState(id, 'failed')
  t.is(world.cluster.store.get('tasks', successorTaskId(id)), undefined)
})

real('a node that leaves while its tasks end and begin keeps none of them', async (t) => {
  for (let round = 0; round < 4; round += 1) {
    const world = await makeWorld(t)
    const ids = await Promise.all(
      Array.from({ length: 4 }, () => world.run({ script: 'exit 1', RestartPolicy: AT_ONCE })),
    )
    await Promise.all(ids.map((id) => world.cluster.untilState(id, 'failed')))
    await world.agent.removeAll()
    t.deepEqual(await readdir(join(world.dataDirectory, 'tasks')), [])
  }
})

real('a replica that is behind does not cost a task its life', async (t) => {
  const world = await makeWorld(t)
  const id = await world.run({ script: 'sleep 600' })
  const { status } = await world.cluster.untilState(id, 'running')
  await world.agent.stop()
  const mark = markProcess(status.container?.pid ?? 0)
  const behind = new TestCluster()
  await behind.begin(nodeId, SUBNET)
  const later = await makeWorld(t, behind, world.dataDirectory)
  await until(() => later.agent.containerCounts().running === 1, 'adoption')
  t.deepEqual(markProcess(status.container?.pid ?? 0), mark)
  // Once it is as new as the record and still knows no such task, the task is gone.
  while (behind.store.index < world.cluster.store.index) behind.store.skip(behind.store.index + 1)
  behind.store.load(behind.store.image())
  await until(() => !existsSync(join(world.dataDirectory, 'tasks', id)), 'cleaned up')
})

for (const wanted of ['auto', 'process'] as const) {
  real(`SIGKILL of the daemon costs no task; another adopts it (${wanted})`, async (t) => {
    const dataDirectory = await mkdtemp(join(base, 'killed-'))
    const script = 'while [ ! -e /tmp/go ]; do sleep 0.05; done; exit 31'
    const spec: TaskSpec = {
      ContainerSpec: { Image: 'busybox:1', Command: ['sh', '-c', script] },
      RestartPolicy: NEVER,
    }
    const address = nextAddress()
    const given: DaemonArguments = {
      nodeId,
      dataDirectory,
      rootfs,
      subnet: SUBNET,
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
    await cluster.begin(nodeId, SUBNET)
    const again = await chooseExecutor(components, { dataDirectory, wanted, swarm })
    const { store } = cluster
    const images = oneImage(imageOf(rootfs))
    const agent = new Agent(
      { ...components, store, proposer: cluster, images, executor: again },
      { nodeId, dataDirectory },
    )
    await agent.start()
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
  await chmod(base, 0o755)
  const given: DaemonArguments = {
    nodeId,
    dataDirectory: home,
    rootfs,
    subnet: SUBNET,
    address: nextAddress(),
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
    await rm(home, { recursive: true, force: true })
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
