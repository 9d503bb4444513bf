/** Tasks of a service that run, and the insides of their network namespaces. */
import { netnsPlace } from '../../src/network/testing/netns-sockets.ts'
import type { Place } from '../../src/network/conformance-peers.ts'
import { api } from './daemon.ts'
import type { Daemon } from './daemon.ts'
import { runInside } from './hosts.ts'
import type { TaskJson } from './swarm.ts'

/** Tasks of the service that run and are to run, as this daemon knows them. */
export async function runningTasks(daemon: Daemon, service: string): Promise<TaskJson[]> {
  const filters = encodeURIComponent(JSON.stringify({ service: { [service]: true } }))
  const tasks = (await api(daemon.socket, 'GET', `/tasks?filters=${filters}`)) as TaskJson[]
  return tasks.filter((task) => task.Status.State === 'running' && task.DesiredState === 'running')
}

/** The network namespace of a task's container. */
export function namespaceOf(task: TaskJson): string {
  return `skein-${task.ID}`
}

/** Where a task's sockets are, at its IPv6 address. */
export function taskPlace(task: TaskJson): Place {
  const text = runInside(namespaceOf(task), 'ip', '-6', '-o', 'addr', 'show', 'dev', 'eth0')
  return netnsPlace(`/run/netns/${namespaceOf(task)}`, /inet6 ([^/]+)\//.exec(text)?.[1] ?? '')
}

/** IPv6 addresses that the task's resolver gives. */
export function resolve6(task: TaskJson, name: string): string[] {
  const netns = namespaceOf(task)
  const gateway = runInside(netns, 'ip', 'route').match(/default via (\S+)/)?.[1] ?? ''
  const text = runInside(netns, 'busybox', 'nslookup', '-type=AAAA', name, gateway)
  return [...text.matchAll(/Address: (\S*:\S*:\S+)$/gm)].map((match) => match[1] ?? '')
}

/** What the task's resolver says; empty when it knows nothing. */
export function resolve(task: TaskJson, name: string): string[] {
  const gateway = runInside(namespaceOf(task), 'ip', 'route').match(/default via (\S+)/)?.[1] ?? ''
  try {
    const text = runInside(namespaceOf(task), 'busybox', 'nslookup', name, gateway)
    return [
      ...text
        .split('Name:')
        .slice(1)
        .join()
        .matchAll(/Address[^:]*: (\S+)/g),
    ].map((match) => match[1] ?? '')
  } catch {
    return []
  }
}
