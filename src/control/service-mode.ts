/** How many tasks a service is to have, as its spec says. */
import type { ServiceSpec } from '../store/spec.ts'

/** Kinds of services. */
export type ServiceMode = 'replicated' | 'global' | 'replicated-job' | 'global-job'

/** The mode; none given means replicated. A null, as Go's clients may write it, is none. */
export function serviceMode(spec: ServiceSpec): ServiceMode {
  const mode = spec.Mode
  if (isGiven(mode?.Global)) return 'global'
  if (isGiven(mode?.ReplicatedJob)) return 'replicated-job'
  if (isGiven(mode?.GlobalJob)) return 'global-job'
  return 'replicated'
}

function isGiven(member: unknown): boolean {
  return member !== undefined && member !== null
}

/** Replicas of a replicated service; none given means one. */
export function replicasOf(spec: ServiceSpec): number {
  return spec.Mode?.Replicated?.Replicas ?? 1
}
