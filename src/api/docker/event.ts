/**
 * Events made of committed changes, as `docker events` shows swarm objects.
 * Source: moby `daemon/cluster/noderunner.go` (`clusterUpdate`); recorded exchange 300.
 */
import type { Node, Service } from '../../store/objects.ts'
import type { Change } from '../../store/view.ts'

/** One event in Docker's spelling. */
export interface DockerEvent {
  readonly Type: 'service' | 'node'
  readonly Action: 'create' | 'update' | 'remove'
  readonly Actor: { readonly ID: string; readonly Attributes: Readonly<Record<string, string>> }
  readonly scope: 'swarm'
  readonly time: number
  readonly timeNano: number
}

/** The event of a change, if its table has any. `wallMs` is when it was seen here. */
export function changeEvent(change: Change, wallMs: number): DockerEvent | undefined {
  if (change.table !== 'services' && change.table !== 'nodes') return undefined
  const attributes =
    change.table === 'services'
      ? serviceAttributes(change.before, change.after)
      : nodeAttributes(change.before, change.after)
  return {
    Type: change.table === 'services' ? 'service' : 'node',
    Action: change.before === undefined ? 'create' : change.after ? 'update' : 'remove',
    Actor: { ID: change.id, Attributes: attributes },
    scope: 'swarm',
    time: Math.floor(wallMs / 1000),
    timeNano: wallMs * 1e6,
  }
}

function serviceAttributes(before?: Service, after?: Service): Record<string, string> {
  return {
    name: (after ?? before)?.spec.Name ?? '',
    ...(before === undefined || after === undefined
      ? {}
      : {
          ...difference('replicas', replicasText(before), replicasText(after)),
          ...difference(
            'image',
            before.spec.TaskTemplate.ContainerSpec.Image,
            after.spec.TaskTemplate.ContainerSpec.Image,
          ),
          ...difference(
            'updatestate',
            before.updateStatus?.state ?? '',
            after.updateStatus?.state ?? '',
          ),
        }),
  }
}

function replicasText(service: Service): string {
  return String(service.spec.Mode?.Replicated?.Replicas ?? '')
}

function nodeAttributes(before?: Node, after?: Node): Record<string, string> {
  const node = after ?? before
  return {
    name: node?.spec.Name ?? node?.description.hostname ?? '',
    ...(before === undefined || after === undefined
      ? {}
      : {
          ...difference('state', before.status.state, after.status.state),
          ...difference('availability', before.spec.Availability, after.spec.Availability),
          ...difference('role', before.spec.Role, after.spec.Role),
        }),
  }
}

function difference(name: string, before: string, after: string): Record<string, string> {
  if (before === after) return {}
  return {
    ...(after === '' ? {} : { [`${name}.new`]: after }),
    ...(before === '' ? {} : { [`${name}.old`]: before }),
  }
}
