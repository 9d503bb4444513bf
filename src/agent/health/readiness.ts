/**
 * How one knows that a task is ready, so that no connection is led to a program that does not
 * answer yet. A health check decides when there is one. Else the task's own words about what it
 * serves: its published ports, or, on a network, the ports that its image exposes (of those one is
 * enough: many images expose ports that they open on request only). A task that says nothing is
 * ready when it has started.
 */
import type { ReadyImage } from '../../image/ports.ts'
import type { Task } from '../../store/objects.ts'
import { effectiveCheck } from './health-check.ts'
import type { HealthCheck } from './health-check.ts'

/** A port that a program is to listen on. */
export interface ServedPort {
  readonly protocol: 'tcp' | 'udp'
  readonly port: number
}

/** Ports to wait for. */
export interface ListenWish {
  readonly ports: readonly ServedPort[]
  readonly enough: 'all' | 'any'
}

/** What must be seen before a task counts as running. */
export type Readiness =
  | { readonly type: 'check'; readonly check: HealthCheck }
  | { readonly type: 'listen'; readonly wish: ListenWish }

/** What to wait for; undefined: nothing. */
export function readinessOf(
  task: Pick<Task, 'spec' | 'ports' | 'networks'>,
  image: ReadyImage['config'],
): Readiness | undefined {
  const check = effectiveCheck(task.spec.ContainerSpec.Healthcheck, image)
  if (check !== undefined) return { type: 'check', check }
  const published = task.ports.flatMap(({ protocol, targetPort: port }) => {
    return protocol === 'sctp' ? [] : [{ protocol, port }]
  })
  if (published.length > 0) return { type: 'listen', wish: { ports: published, enough: 'all' } }
  const exposed = (task.networks ?? []).length === 0 ? [] : image.exposedPorts.flatMap(exposedPort)
  if (exposed.length === 0) return undefined
  return { type: 'listen', wish: { ports: exposed, enough: 'any' } }
}

/** Text of a wish: `80/tcp and 53/udp`. */
export function wishText({ ports, enough }: ListenWish): string {
  const texts = ports.map(({ protocol, port }) => `${port}/${protocol}`)
  return texts.join(enough === 'all' ? ' and ' : ' or ')
}

/** `80`, `80/tcp`; a range or anything else says nothing. */
function exposedPort(text: string): ServedPort[] {
  const [, digits = '', protocol = 'tcp'] = /^(\d{1,5})(?:\/(tcp|udp))?$/.exec(text) ?? []
  const port = Number(digits)
  if (port < 1 || port > 65_535) return []
  return [{ protocol: protocol === 'udp' ? 'udp' : 'tcp', port }]
}
