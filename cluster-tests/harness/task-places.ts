/** Tasks of a service that run, and the insides of their network namespaces. */
import { netnsPlace } from '../../src/network/testing/netns-sockets.ts'
import type { Place } from '../../src/network/conformance-peers.ts'
import { api } from './daemon.ts'
import type { Daemon } from './daemon.ts'
import { runInside } from './hosts.ts'
import type { TaskJson } from './swarm.ts'
import { namespaceOf } from './task-names.ts'

/** Tasks of the service that run and are to run, as this daemon knows them. */
export async function runningTasks(daemon: Daemon, service: string): Promise<TaskJson[]> {
  const filters = encodeURIComponent(JSON.stringify({ service: { [service]: true } }))
  const tasks = (await api(daemon.socket, 'GET', `/tasks?filters=${filters}`)) as TaskJson[]
  return tasks.filter((task) => task.Status.State === 'running' && task.DesiredState === 'running')
}

/** Where a task's sockets are, at its IPv6 address. */
export function taskPlace(task: TaskJson): Place {
  const text = runInside(namespaceOf(task), 'ip', '-6', '-o', 'addr', 'show', 'dev', 'eth0')
  return netnsPlace(`/run/netns/${namespaceOf(task)}`, /inet6 ([^/]+)\//.exec(text)?.[1] ?? '')
}
