/**
 * What one service brings into the names of its networks. Pure.
 *
 * On each network that its tasks are on it is known by its name and its aliases there (its virtual
 * address, or its tasks' addresses), by `tasks.<service>` (always its tasks'), each task by its
 * Docker name and its host name. Source: Docker's documented service discovery; libnetwork's
 * resolver in its behaviour.
 */
import type { Service, Task } from '../../store/objects.ts'
import type { StoreView } from '../../store/view.ts'

/** Digits of a task id that make the default host name; as the agent gives it. */
const HOSTNAME_DIGITS = 12

/** What names are made from. */
export interface ServiceScene {
  readonly store: StoreView
  readonly nodeId: string
  /** This node's tasks of the service as it knows them itself; absent: as the store says. */
  readonly own?: readonly Task[]
  /** Whether this node answers on virtual addresses; else services mean their tasks. */
  readonly hasVirtualAddresses: boolean
  /** Whether this node's containers reach tasks of other nodes; else only its own are named. */
  readonly routed: boolean
}

/** What a name means. */
export interface NameEntry {
  /** IPv4; in no order that means something. */
  readonly addresses: readonly string[]
  /** `service`: stable while the service lives; `task`: as the tasks come and go. */
  readonly kind: 'service' | 'task'
}

/** What a service brings; keys are made by {@link keyOf}. */
export interface ServiceNames {
  readonly named: ReadonlyMap<string, NameEntry>
  /** Names by address. */
  readonly reverse: ReadonlyMap<string, string>
}

/** The key of a name, or of an address, on a network. */
export function keyOf(networkId: string, word: string): string {
  return `${networkId}/${word.toLowerCase()}`
}

/** What several say of one name, an alias say, means all of them. */
export function joined(entries: readonly NameEntry[]): NameEntry | undefined {
  const [first, ...more] = entries
  if (first === undefined || more.length === 0) return first
  const addresses = new Set(entries.flatMap((entry) => entry.addresses))
  return { kind: first.kind, addresses: [...addresses] }
}

/** The names of a service. */
export function namesOf(scene: ServiceScene, service: Service): ServiceNames {
  const made = new Making()
  const running = runningTasks(scene, service)
  for (const { networkId, aliases } of service.endpoint?.networks ?? []) {
    const spansNodes = scene.store.get('networks', networkId)?.spec.Driver !== 'bridge'
    const here = running.filter(
      (task) => isOn(task, networkId) && (spansNodes || task.nodeId === scene.nodeId),
    )
    const addresses = here.flatMap((task) => addressOn(task, networkId) ?? [])
    const virtual = scene.hasVirtualAddresses
      ? service.endpoint?.virtualAddresses?.find((one) => one.networkId === networkId)?.address
      : undefined
    const { Name: name } = service.spec
    const meant =
      virtual === undefined
        ? ({ addresses, kind: 'task' } as const)
        : ({ addresses: [virtual], kind: 'service' } as const)
    for (const known of [name, ...aliases]) made.add(keyOf(networkId, known), meant)
    if (virtual !== undefined) made.name(keyOf(networkId, virtual), name)
    made.add(keyOf(networkId, `tasks.${name}`), { addresses, kind: 'task' })
    for (const task of here) addTask(made, networkId, task)
  }
  return made
}

class Making implements ServiceNames {
  readonly named = new Map<string, NameEntry>()
  readonly reverse = new Map<string, string>()

  add(key: string, entry: NameEntry): void {
    const known = this.named.get(key)
    this.named.set(key, known === undefined ? entry : (joined([known, entry]) ?? entry))
  }

  name(key: string, name: string): void {
    if (!this.reverse.has(key)) this.reverse.set(key, name)
  }
}

function addTask(made: Making, networkId: string, task: Task): void {
  const address = addressOn(task, networkId)
  if (address === undefined) return
  const place = task.slot > 0 ? String(task.slot) : task.nodeId
  const full = `${task.serviceName}.${place}.${task.id}`
  const entry = { addresses: [address], kind: 'task' } as const
  const hostname = task.spec.ContainerSpec.Hostname ?? ''
  made.add(keyOf(networkId, full), entry)
  made.add(keyOf(networkId, task.id.slice(0, HOSTNAME_DIGITS)), entry)
  if (hostname !== '' && !hostname.includes('{{')) made.add(keyOf(networkId, hostname), entry)
  made.name(keyOf(networkId, address), full)
}

/** The tasks of a service that others should find. */
function runningTasks(scene: ServiceScene, service: Service): Task[] {
  const { store, nodeId, own, routed } = scene
  const known = store.find('tasks', 'serviceId', service.id)
  const elsewhere = known.filter((task) => task.nodeId !== nodeId && routed)
  const here = own ?? known.filter((task) => task.nodeId === nodeId)
  return [...elsewhere, ...here].filter((task) => {
    const { state } = store.get('nodes', task.nodeId)?.status ?? { state: 'down' }
    const lost = state === 'down' && task.nodeId !== nodeId
    const wish = store.get('tasks', task.id)?.desiredState ?? task.desiredState
    const isWell = task.status.state === 'running' && task.status.health !== 'unhealthy'
    return isWell && wish === 'running' && !lost
  })
}

function isOn(task: Task, networkId: string): boolean {
  return task.networks?.some((one) => one.networkId === networkId) === true
}

function addressOn(task: Task, networkId: string): string | undefined {
  const own = task.networks?.find((one) => one.networkId === networkId)?.address
  return own ?? task.address
}
