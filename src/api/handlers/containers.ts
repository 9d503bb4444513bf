/** `GET /containers/json`: the containers of this node's own tasks, as `docker ps` lists them. */
import type { Task } from '../../store/objects.ts'
import { isTerminal } from '../../store/objects.ts'
import type { StoreView } from '../../store/view.ts'
import { containerNetworks } from '../docker/task.ts'
import { Filters } from '../filters.ts'
import { taskName } from '../lookup.ts'
import type { ApiComponents } from '../ports.ts'
import { json } from '../reply.ts'
import type { Reply } from '../reply.ts'
import { flag } from '../request.ts'
import type { ApiRequest } from '../request.ts'
import { route } from '../router.ts'
import type { Route } from '../router.ts'

const CONTAINER_FILTERS = ['id', 'name', 'label', 'status', 'ancestor', 'health'] as const

/** Routes of containers. */
export function containerRoutes(components: ApiComponents): readonly Route[] {
  return [route('GET', '/containers/json', (request) => list(components, request))]
}

function list(components: ApiComponents, request: ApiRequest): Reply {
  const filters = Filters.parse(request.query, CONTAINER_FILTERS)
  filters.requireOneOf('health', ['starting', 'healthy', 'unhealthy', 'none'])
  const context = components.context()
  if (context === undefined) return json([])
  const all = flag(request, 'all') || filters.has('status')
  const tasks = context.store
    .find('tasks', 'nodeId', context.nodeId)
    .filter((task) => task.status.container !== undefined)
    .filter((task) => all || !isTerminal(task.status.state))
  return json(
    tasks
      .filter((task) => matches(task, filters))
      .map((task) => ({
        ...containerJson(task, components.clock.wallMs()),
        NetworkSettings: { Networks: networksOf(task, context.store) },
      })),
  )
}

function matches(task: Task, filters: Filters): boolean {
  return (
    filters.prefix('id', task.status.container?.id ?? '') &&
    filters.some('name', (name) => taskName(task).includes(name)) &&
    filters.labels('label', containerLabels(task)) &&
    filters.some('status', (state) => state === containerState(task)) &&
    filters.some('health', (health) => health === (task.status.health ?? 'none')) &&
    filters.some('ancestor', (image) => task.spec.ContainerSpec.Image.startsWith(image))
  )
}

function containerJson(task: Task, nowMs: number): object {
  return {
    Id: task.status.container?.id ?? '',
    Names: [`/${taskName(task)}`],
    Image: task.spec.ContainerSpec.Image,
    ImageID: '',
    Command: [
      ...(task.spec.ContainerSpec.Command ?? []),
      ...(task.spec.ContainerSpec.Args ?? []),
    ].join(' '),
    Created: Math.floor(Date.parse(task.meta.createdAt) / 1000) || 0,
    Ports: [],
    Labels: containerLabels(task),
    State: containerState(task),
    Status: statusText(task, nowMs),
    HostConfig: { NetworkMode: 'default' },
    Mounts: [],
  }
}

/** One that has ended is on none. */
function networksOf(task: Task, store: StoreView): object {
  return isTerminal(task.status.state) ? {} : containerNetworks(task, store)
}

/** `Up 3 minutes (healthy)`, as clients print it. */
function statusText(task: Task, nowMs: number): string {
  if (containerState(task) !== 'running') return task.status.message
  const seconds = Math.max(0, Math.floor((nowMs - Date.parse(task.status.timestamp)) / 1000))
  const [unit, length] = UNITS.find(([, size]) => seconds >= 2 * size) ?? ['seconds', 1]
  return `Up ${Math.floor(seconds / length)} ${unit}${healthText(task)}`
}

function healthText({ status: { health } }: Task): string {
  if (health === undefined) return ''
  return health === 'starting' ? ' (health: starting)' : ` (${health})`
}

/** Units of time with their length in seconds, longest first. */
const UNITS = [
  ['days', 86_400],
  ['hours', 3600],
  ['minutes', 60],
  ['seconds', 1],
] as const

function containerState(task: Task): string {
  const { state, container } = task.status
  // A container runs before its task counts as running: it may have to become healthy first.
  if (state === 'running' || (state === 'starting' && container !== undefined)) return 'running'
  return isTerminal(task.status.state) ? 'exited' : 'created'
}

function containerLabels(task: Task): Record<string, string> {
  return {
    ...task.spec.ContainerSpec.Labels,
    'com.docker.swarm.node.id': task.nodeId,
    'com.docker.swarm.service.id': task.serviceId,
    'com.docker.swarm.service.name': task.serviceName,
    'com.docker.swarm.task': '',
    'com.docker.swarm.task.id': task.id,
    'com.docker.swarm.task.name': taskName(task),
  }
}
