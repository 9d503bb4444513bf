/** `/tasks*`. The `_up-to-date` filter is what the docker CLI's progress display asks with. */
import { isDeepStrictEqual } from 'node:util'
import type { Service, Task } from '../../store/objects.ts'
import type { StoreView } from '../../store/view.ts'
import { taskJson } from '../docker/task.ts'
import { Filters } from '../filters.ts'
import { findNode, findService, findTask, taskName } from '../lookup.ts'
import { requireManager } from '../manager.ts'
import type { ApiComponents } from '../ports.ts'
import { json } from '../reply.ts'
import type { Reply } from '../reply.ts'
import { parameter } from '../request.ts'
import type { ApiRequest } from '../request.ts'
import { route } from '../router.ts'
import type { Route } from '../router.ts'

const TASK_FILTERS = [
  'id',
  'label',
  'name',
  'node',
  'service',
  'desired-state',
  'runtime',
  '_up-to-date',
] as const

/** Routes of tasks but for their logs. */
export function taskRoutes(components: ApiComponents): readonly Route[] {
  return [
    route('GET', '/tasks', (request) => list(components, request)),
    route('GET', '/tasks/{id}', (request) => {
      const { store } = requireManager(components)
      return json(taskJson(findTask(store, parameter(request, 'id')), store))
    }),
  ]
}

function list(components: ApiComponents, request: ApiRequest): Reply {
  const { store, nodeId } = requireManager(components)
  const filters = Filters.parse(request.query, TASK_FILTERS)
  filters.requireOneOf('desired-state', ['running', 'shutdown', 'accepted'])
  const services = new Set(
    filters.values('service').map((reference) => findService(store, reference).id),
  )
  const nodes = new Set(
    filters
      .values('node')
      .map((reference) => (reference === 'self' ? nodeId : findNode(store, reference).id)),
  )
  const wanted = (task: Task): boolean =>
    (services.size === 0 || services.has(task.serviceId)) &&
    (nodes.size === 0 || nodes.has(task.nodeId)) &&
    matches(store, task, filters)
  return json(
    candidates(store, services)
      .filter(wanted)
      .map((task) => taskJson(task, store)),
  )
}

/** The tasks of the named services by index, or all. */
function candidates(store: StoreView, services: ReadonlySet<string>): Task[] {
  if (services.size === 0) return store.list('tasks')
  return [...services].flatMap((id) => store.find('tasks', 'serviceId', id))
}

function matches(store: StoreView, task: Task, filters: Filters): boolean {
  return (
    filters.prefix('id', task.id) &&
    filters.prefix('name', taskName(task)) &&
    filters.labels('label', task.spec.ContainerSpec.Labels) &&
    filters.some('desired-state', (state) => task.desiredState === state) &&
    filters.some('runtime', (runtime) => runtime === (task.spec.Runtime ?? 'container')) &&
    filters.some('_up-to-date', (value) => {
      const service = store.get('services', task.serviceId)
      return value !== 'true' || (service !== undefined && isUpToDate(service, task))
    })
  )
}

/** Whether the task is made from the service's template of now: scaling alone outdates nothing. */
export function isUpToDate(service: Service, task: Task): boolean {
  if (task.specVersion === service.specVersion) return true
  return isDeepStrictEqual(task.spec, service.spec.TaskTemplate)
}
