/** The service that most tests look at: the demonstration image behind a published port. */
import { api, skeinOk, until } from './daemon.ts'
import type { Daemon } from './daemon.ts'
import { answers } from './http.ts'
import { IMAGE } from './swarm.ts'
import type { TaskJson, TestSwarm } from './swarm.ts'

/** Creates `web`, with these flags too, on the first node and waits until each replica has answered. */
export async function createWeb(
  swarm: TestSwarm,
  replicas: number,
  port: number,
  ...flags: readonly string[]
): Promise<TaskJson[]> {
  await swarm.loadImage()
  await skeinOk(
    swarm.node(0),
    ...['service', 'create', '--detach', '--name', 'web', '--replicas', String(replicas)],
    ...['--publish', `${port}:80`, '--restart-delay', '0s', ...flags, IMAGE],
  )
  const tasks = await swarm.untilRunning(swarm.node(0), replicas)
  await until('every replica to answer', async () => {
    const seen = await answers(swarm.node(0).host, port, 2 * replicas)
    if (seen.size !== replicas) throw new Error(`only ${[...seen].join(', ')}`)
    return true
  })
  return tasks
}

/** The node that `daemon` is; also a worker can say it. */
export async function nodeIdOf(daemon: Daemon): Promise<string> {
  const info = (await api(daemon.socket, 'GET', '/info')) as { Swarm: { NodeID: string } }
  return info.Swarm.NodeID
}

/** Main processes of the tasks' containers, ascending. */
export function pids(tasks: readonly TaskJson[]): number[] {
  return tasks.map((task) => task.Status.ContainerStatus?.PID ?? 0).toSorted((a, b) => a - b)
}
