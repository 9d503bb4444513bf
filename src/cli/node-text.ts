/**
 * A node for people: `node inspect --pretty`. Docker's layout, and in place of its engine labels
 * how the node runs tasks and balances, and why so: the daemon tells that in labels
 * (`skein.executor` …).
 */
import { capitalized, memoryText } from './human.ts'
import type { NodeJson } from './swarm-api.ts'

/** Where values stand. */
const VALUE_COLUMN = 24

/** The node in lines. */
export function nodeText(node: NodeJson): string {
  const { Description: description, Spec: spec, Status: status } = node
  return [
    field('ID', node.ID),
    ...labelLines('Labels', spec.Labels ?? {}),
    field('Hostname', description.Hostname),
    field('Joined at', node.CreatedAt),
    'Status:',
    field(' State', capitalized(status.State)),
    ...(status.Message === undefined ? [] : [field(' Message', status.Message)]),
    field(' Availability', capitalized(spec.Availability)),
    field(' Address', status.Addr),
    ...managerLines(node),
    'Platform:',
    field(' Operating System', description.Platform.OS),
    field(' Architecture', description.Platform.Architecture),
    'Resources:',
    field(' CPUs', String(description.Resources.NanoCPUs / 1e9)),
    field(' Memory', memoryText(description.Resources.MemoryBytes)),
    field('Engine Version', description.Engine.EngineVersion),
    ...driverLines(description.Engine.Labels ?? {}),
  ]
    .map((line) => `${line}\n`)
    .join('')
}

function managerLines({ ManagerStatus: manager }: NodeJson): string[] {
  if (manager === undefined) return []
  return [
    'Manager Status:',
    field(' Address', manager.Addr),
    field(' Raft Status', capitalized(manager.Reachability)),
    field(' Leader', manager.Leader === true ? 'Yes' : 'No'),
  ]
}

function driverLines(labels: Readonly<Record<string, string>>): string[] {
  const isolation = labels['skein.executor.isolation']
  const own = Object.entries(labels).filter(([name]) => !name.startsWith('skein.'))
  return [
    field('Executor', `${labels['skein.executor'] ?? 'unknown'} (${isolation ?? 'unknown'})`),
    field(' Reason', labels['skein.executor.reason'] ?? ''),
    field('Balancer', labels['skein.balancer'] ?? 'unknown'),
    field(' Reason', labels['skein.balancer.reason'] ?? ''),
    ...labelLines('Engine Labels', Object.fromEntries(own)),
  ]
}

function labelLines(name: string, labels: Readonly<Record<string, string>>): string[] {
  const lines = Object.entries(labels).map(([label, value]) => ` - ${label}=${value}`)
  return lines.length === 0 ? [] : [`${name}:`, ...lines]
}

function field(name: string, value: string): string {
  return `${`${name}:`.padEnd(VALUE_COLUMN)}${value}`
}
