/**
 * How fast replicas come: from `service create` until all run, and from the death of a container
 * until its replacement runs, for each peer in interleaved rounds of the same run, with the same
 * image. Death is SIGKILL of the container's main process. Both are seen through `GET /tasks`,
 * asked every `POLL_MS`.
 */
import { killIfThere } from './daemon.ts'
import { Results, readComparison } from './comparison.ts'
import { poll } from './engine-client.ts'
import type { EngineTask } from './engine-client.ts'
import { BENCH_IMAGE } from './image.ts'
import type { Peer, PeerName } from './peer.ts'
import { isAlive } from './process-table.ts'
import { progress, record, recordSetting, withPeers } from './session.ts'

const POLL_MS = 20
const DEADLINE_MS = 180_000
const TIMING = { everyMs: POLL_MS, deadlineMs: DEADLINE_MS }
/** Quiet time before each measurement, so that what the last one left is over. */
const SETTLE_MS = 1_000

interface Options {
  readonly peers: readonly PeerName[]
  readonly replicas: readonly number[]
  readonly rounds: number
  readonly deaths: number
}

function readOptions(): Options {
  const { peers, numbers, count } = readComparison({
    replicas: '1,10,50',
    rounds: '5',
    deaths: '5',
  })
  return { peers, replicas: numbers('replicas'), rounds: count('rounds'), deaths: count('deaths') }
}

async function run(options: Options): Promise<void> {
  await withPeers(async (start) => {
    const peers: Peer[] = []
    for (const name of options.peers) peers.push(await start(name))
    await recordSetting(peers)
    const results = new Results()
    for (let round = 1; round <= options.rounds; round += 1) {
      // Every second round in the other order, so that neither always follows the other.
      const order = round % 2 === 1 ? peers : peers.toReversed()
      for (const replicas of options.replicas) {
        for (const peer of order) {
          progress(`round ${round}: ${peer.name}: ${replicas} replicas`)
          await measureReplicas(peer, replicas, results)
        }
      }
      for (const peer of order) {
        progress(`round ${round}: ${peer.name}: ${options.deaths} deaths`)
        await measureDeaths(peer, options.deaths, results)
      }
    }
    process.stdout.write(`\n${results.table(options.peers, { divisor: 1_000, unit: 's' })}\n`)
  })
}

async function measureReplicas(peer: Peer, replicas: number, results: Results): Promise<void> {
  await withService(peer, replicas, (createdMs, runningMs) => {
    add(results, {
      peer: peer.name,
      what: `create ${replicas}`,
      ms: runningMs,
      createMs: createdMs,
    })
    return Promise.resolve()
  })
}

async function measureDeaths(peer: Peer, deaths: number, results: Results): Promise<void> {
  await withService(peer, 1, async (_createdMs, _runningMs, serviceId) => {
    for (let i = 0; i < deaths; i += 1) {
      await settle()
      const [victim] = runningTasks(await peer.client.tasks(serviceId))
      if (victim === undefined) throw new Error('no running task to kill')
      const beganMs = performance.now()
      killIfThere(mainPid(victim))
      await poll('the replacement', TIMING, async () => {
        const running = runningTasks(await peer.client.tasks(serviceId))
        return running.some((task) => task.ID !== victim.ID) || undefined
      })
      add(results, { peer: peer.name, what: 'death', ms: performance.now() - beganMs })
    }
  })
}

/**
 * Creates a service, waits until all replicas run, calls `work`, removes it and waits for the end.
 */
async function withService(
  peer: Peer,
  replicas: number,
  work: (createdMs: number, runningMs: number, serviceId: string) => Promise<void>,
): Promise<void> {
  await settle()
  const name = `bench-${replicas}-${Math.round(performance.now())}`
  const beganMs = performance.now()
  const id = await peer.client.createService({ name, image: BENCH_IMAGE, replicas })
  const createdMs = performance.now() - beganMs
  const pids = new Set<number>()
  try {
    await poll(`${replicas} replicas of ${peer.name}`, TIMING, async () => {
      const running = runningTasks(await peer.client.tasks(id))
      return running.length >= replicas || undefined
    })
    await work(createdMs, performance.now() - beganMs, id)
    for (const task of runningTasks(await peer.client.tasks(id))) pids.add(mainPid(task))
  } finally {
    await peer.client.removeService(id)
  }
  await poll(`end of the replicas of ${peer.name}`, TIMING, async () => {
    if ([...pids].some((pid) => isAlive(pid))) return undefined
    const left = await tasksOrNone(peer, id)
    return left === 0 || undefined
  })
}

/**
 * Tasks of a removed service that are listed still; a peer may say that there is no such service.
 */
async function tasksOrNone(peer: Peer, serviceId: string): Promise<number> {
  try {
    return (await peer.client.tasks(serviceId)).length
  } catch (error) {
    if (error instanceof Error && error.message.includes(': 404 ')) return 0
    throw error
  }
}

function runningTasks(tasks: readonly EngineTask[]): EngineTask[] {
  return tasks.filter((task) => task.DesiredState === 'running' && task.Status.State === 'running')
}

function mainPid(task: EngineTask): number {
  const pid = task.Status.ContainerStatus?.PID ?? 0
  if (pid <= 1) throw new Error(`task ${task.ID}: its process id is not known`)
  return pid
}

function settle(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, SETTLE_MS)
  })
}

function add(
  results: Results,
  measurement: {
    readonly peer: PeerName
    readonly what: string
    readonly ms: number
    readonly createMs?: number
  },
): void {
  record(measurement)
  results.add(measurement.what, measurement.peer, measurement.ms)
}

await run(readOptions())
