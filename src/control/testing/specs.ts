/** Specs and tasks as the tests of the control plane change and read them. */
import type { Task } from '../../store/objects.ts'
import type { ServiceSpec } from '../../store/spec.ts'

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
