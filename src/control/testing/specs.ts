/** Specs and tasks as the tests of the control plane change and read them. */
import type { Task } from '../../store/objects.ts'
import type { ServiceSpec } from '../../store/spec.ts'

/** Nanoseconds, as specs count. */
export const SECOND_NS = 1_000_000_000

/** `spec` with other members of its template. */
export function withTemplate(
  spec: ServiceSpec,
  fields: Partial<ServiceSpec['TaskTemplate']>,
): ServiceSpec {
  return { ...spec, TaskTemplate: { ...spec.TaskTemplate, ...fields } }
}

/** `spec` with containers of the image `name`. */
export function image(spec: ServiceSpec, name: string): ServiceSpec {
  return withTemplate(spec, { ContainerSpec: { Image: name } })
}

/** The tasks' slots in order. */
export function slots(tasks: readonly Task[]): number[] {
  return tasks.map((task) => task.slot).toSorted((a, b) => a - b)
}

/** How many of the tasks each node has. */
export function perNode(tasks: readonly Task[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const task of tasks) counts[task.nodeId] = (counts[task.nodeId] ?? 0) + 1
  return counts
}
