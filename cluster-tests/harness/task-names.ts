/** A task's network namespace, and what its resolver says. Loads little: guests load it, too. */
import { isIPv6 } from 'node:net'
import { runInside } from './hosts.ts'
import type { TaskJson } from './swarm.ts'

/** The network namespace of a task's container. */
export function namespaceOf(task: TaskJson): string {
  return `skein-${task.ID}`
}

/** Addresses that the task's resolver gives; empty when it knows nothing. */
export function resolve(task: TaskJson, name: string, type: 'A' | 'AAAA' = 'A'): string[] {
  const namespace = namespaceOf(task)
  const gateway = runInside(namespace, 'ip', 'route').match(/default via (\S+)/)?.[1] ?? ''
  const asked = type === 'A' ? [] : [`-type=${type}`]
  try {
    const said = runInside(namespace, 'busybox', 'nslookup', ...asked, name, gateway)
    const answer = said.split('Name:').slice(1).join('')
    const addresses = [...answer.matchAll(/Address[^:]*: (\S+)/g)].map((match) => match[1] ?? '')
    return addresses.filter((address) => isIPv6(address) === (type === 'AAAA'))
  } catch {
    // It exits so when there is no such name.
    return []
  }
}
