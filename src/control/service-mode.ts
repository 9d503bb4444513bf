/** How many tasks a service is to have, as its spec says. */
import type { ServiceSpec } from '../store/spec.ts'

/** Kinds of services. */
export type ServiceMode = 'replicated' | 'global' | 'replicated-job' | 'global-job'

/** The mode; none given means replicated. */
export function serviceMode(spec: ServiceSpec): ServiceMode {
  const mode = spec.Mode
  if (mode?.Global !== undefined) return 'global'
  if (mode?.ReplicatedJob !== undefined) return 'replicated-job'
  if (mode?.GlobalJob !== undefined) return 'global-job'
  return 'replicated'
}

/** Replicas of a replicated service; none given means one. */
export function replicasOf(spec: ServiceSpec): number {
  return spec.Mode?.Replicated?.Replicas ?? 1
}
