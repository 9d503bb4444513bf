/** What becomes of tasks that are assigned, desired otherwise, ended and restarted. */
import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { newIdentifier } from '../base/identifiers.ts'
import { systemRandom } from '../base/random.ts'
import { successorTaskId } from '../store/restart-policy.ts'
import { networkNamespacePath } from './networking.ts'
import { AgentGround, AT_ONCE, NEVER, collect, logOf, until } from './testing/agent-world.ts'

const ground = await AgentGround.prepare('tasks', '10.213.42')
const real = ground.test

real('an assigned task is run and reported with its container', async (t) => {
  const world = await ground.world(t)
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
  const world = await ground.world(t)
  const good = await world.run({ script: 'exit 0', RestartPolicy: NEVER })
  const bad = await world.run({ script: 'exit 9', RestartPolicy: NEVER })
  await world.cluster.untilState(good, 'complete')
  const { status } = await world.cluster.untilState(bad, 'failed')
  t.is(status.err, 'task: non-zero exit (9)')
  t.is(status.container?.exitCode, 9)
})

real('a missing image and a missing mount source reject the task with the reason', async (t) => {
  const world = await ground.world(t)
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
  const world = await ground.world(t)
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
  const world = await ground.world(t)
  const id = await world.run({ script: 'sleep 600' })
  const { status } = await world.cluster.untilState(id, 'running')
  await world.cluster.propose([{ type: 'remove', table: 'tasks', id }])
  await until(() => !existsSync(join(world.dataDirectory, 'tasks', id)), 'directory gone')
  t.false(existsSync(`/proc/${status.container?.pid ?? 0}`))
})

real('a task desired ready is prepared and waits until it may run', async (t) => {
  const world = await ground.world(t)
  const ContainerSpec = { Image: 'busybox:1', Command: ['sleep', '600'], StopGracePeriod: 0 }
  const fields = { desiredState: 'ready', address: ground.nextAddress() } as const
  const id = await world.cluster.assign(ground.nodeId, { ContainerSpec }, fields)
  await world.cluster.untilState(id, 'ready')
  t.deepEqual(world.agent.containerCounts(), { running: 0, total: 1 })
  await world.cluster.desire(id, 'running')
  await world.cluster.untilState(id, 'running')
  t.pass()
})

real('many tasks at once are reported in few proposals', async (t) => {
  const world = await ground.world(t)
  const before = world.cluster.proposals.length
  const script = 'trap "exit 0" TERM; while :; do sleep 0.1; done'
  const ids = await Promise.all(Array.from({ length: 8 }, () => world.run({ script })))
  await Promise.all(ids.map((id) => world.cluster.untilState(id, 'running')))
  const reports = world.cluster.proposals.length - before - ids.length
  t.true(reports < ids.length * 5, `${reports} proposals for ${ids.length} tasks`)
})

real('a task that ends is restarted here at once, with the same address', async (t) => {
  const world = await ground.world(t)
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

real('a refused restart stops the successor and leaves no trace of it', async (t) => {
  const world = await ground.world(t)
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
    const world = await ground.world(t)
    const ids = await Promise.all(
      Array.from({ length: 4 }, () => world.run({ script: 'exit 1', RestartPolicy: AT_ONCE })),
    )
    await Promise.all(ids.map((id) => world.cluster.untilState(id, 'failed')))
    await world.agent.removeAll()
    t.deepEqual(await readdir(join(world.dataDirectory, 'tasks')), [])
  }
})
