/**
 * A node of a large cluster, from its store to its kernel: what `path.ts` measures. The store is
 * written as Raft would; reconcilers, layered balancer, drivers and plane are the daemon's own. The
 * time in which the reconcilers gather changes (10 ms) is left out.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { at } from '../../src/base/assert.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/log.ts'
import { systemRandom } from '../../src/base/random.ts'
import { IpvsBalancer } from '../../src/network/ipvs/ipvs-balancer.ts'
import { NftMarks } from '../../src/network/ipvs/nft-marks.ts'
import { LayeredBalancer } from '../../src/network/layered-balancer.ts'
import { loadNative } from '../../src/network/netlink/native.ts'
import type { Native } from '../../src/network/netlink/native.ts'
import { NetworkReconciler } from '../../src/network/network.ts'
import { NftablesBalancer } from '../../src/network/nftables/balancer.ts'
import { Plane } from '../../src/network/plane/plane.ts'
import { PlaneReconciler } from '../../src/network/plane/plane-reconciler.ts'
import type { LoadBalancer } from '../../src/network/ports.ts'
import { UserspaceBalancer } from '../../src/network/userspace/balancer.ts'
import { Store } from '../../src/store/store.ts'
import {
  clusterDraft,
  nodeDraft,
  serviceDraft,
  serviceSpec,
  taskDraft,
  writeTo,
} from '../../src/store/testing/fixtures.ts'
import type { AllocatedPort, Task } from '../../src/store/objects.ts'
import type { Action, Draft } from '../../src/store/transaction.ts'
import { NO_MARKS, within } from '../../cluster-tests/ipvs/case.ts'
import { AT_ONCE, Applications } from './applications.ts'

/** Where it is measured: nftables on this machine's kernel, IPVS in a guest's. */
export type PathKernel = 'host' | 'uml' | 'qemu'

const BACKENDS = 10
const NODES = 100
const HERE = 'node000'
const NETWORK = 'front'
/** Every so many services also publish a port. */
const PUBLISHED_EVERY = 20
const FIRST_PORT = 20_000
/** The underlay: the VXLAN device looks for it. */
const LINKS = `ip link set lo up; ip link add eth9 type veth peer name eth8
  ip addr add 192.0.2.1/16 dev eth9; ip link set eth9 up; ip link set eth8 up`
const STARTED = { state: 'running', timestamp: '2026-01-01T00:00:00Z', message: 'started' } as const

interface Parts {
  readonly balancer: LoadBalancer
  readonly kernel: NftablesBalancer | IpvsBalancer
  /** Absent in User Mode Linux, which has no nftables for IP. */
  readonly plane?: Plane
  readonly applications: Applications
  readonly remove: () => Promise<void>
}

/** One node of a cluster. */
export class PathScene {
  readonly #store = new Store()
  readonly #services: number
  readonly #parts: Parts
  readonly #network: NetworkReconciler
  readonly #planeReconciler: PlaneReconciler | undefined
  readonly #applications: Applications
  #revision = 0
  #isToggled = false

  private constructor(services: number, parts: Parts) {
    const { balancer, plane, applications } = parts
    this.#services = services
    this.#parts = parts
    this.#applications = applications
    const shared = { store: this.#store, clock: AT_ONCE, log: silentLogger }
    const ownTasks = {
      tasks: () => this.#store.find('tasks', 'nodeId', HERE),
      onChange: () => () => undefined,
    }
    this.#network = new NetworkReconciler(
      { ...shared, ownTasks, balancer },
      { nodeId: HERE, listenAddress: '0.0.0.0', routed: true },
    )
    if (plane !== undefined) {
      const counted = applications.plane(plane)
      this.#planeReconciler = new PlaneReconciler(
        { ...shared, ownTasks, plane: counted },
        { nodeId: HERE },
      )
    }
    this.#populate()
  }

  /** Fills the store and opens the kernel; nothing is programmed yet. */
  static async make(tier: PathKernel, services: number): Promise<PathScene> {
    const load = loadNative()
    if (load.type === 'absent') throw new Error(load.reason)
    const { native } = load
    const folder = mkdtempSync(join(tmpdir(), 'skein-bench-path-'))
    const netns = join(folder, 'node')
    await native.createNetns(netns)
    within(netns, LINKS)
    const kernel = await openKernel(tier, native, netns)
    const log = silentLogger
    const userspace = UserspaceBalancer.create({
      clock: systemClock,
      random: systemRandom,
      log,
      dialer: { dial: () => Promise.reject(new Error('nobody asks')) },
    })
    const applications = new Applications()
    const balancer = applications.balancer(new LayeredBalancer({ kernel, userspace, log }))
    const remove = async (): Promise<void> => {
      await native.removeNetns(netns)
      rmSync(folder, { recursive: true })
    }
    const parts = { balancer, kernel, applications, remove }
    if (tier === 'uml') return new PathScene(services, parts)
    const plane = await Plane.open(native, { nodeId: HERE, netns })
    return new PathScene(services, { ...parts, plane })
  }

  /** From an empty kernel until all is programmed; milliseconds, as of all that follow. */
  start(): Promise<number> {
    const cause = (): void => {
      this.#planeReconciler?.start()
      this.#network.start()
    }
    return this.#applications.after(cause, this.#planeReconciler === undefined ? 1 : 2)
  }

  /** A replica elsewhere is to stop: its weight is 0 then. */
  changeWeight(number: number): Promise<number> {
    const task = this.#task(number * 7 + 3, 1)
    return this.#commit(update(task, { desiredState: 'shutdown' }))
  }

  /** A replica elsewhere ends, and another comes in its place. */
  replaceBackend(number: number): Promise<number> {
    this.#revision += 1
    const task = this.#task(number * 11 + 5, 2)
    const { slot, nodeId, serviceId: of } = task
    const id = `${task.id.split('r')[0] ?? ''}r${this.#revision}`
    const service = Number(of.slice(1))
    const next = this.#taskDraft(service, slot - 1, {
      id,
      nodeId,
      address: flipped(task.address ?? ''),
    })
    return this.#commit(
      { type: 'remove', table: 'tasks', id: task.id, version: task.meta.version },
      { type: 'create', table: 'tasks', object: next },
    )
  }

  /** A service without replicas is made, or removed again. */
  toggleService(): Promise<number> {
    this.#isToggled = !this.#isToggled
    if (this.#isToggled) return this.#commit(...this.#serviceActions(this.#services))
    const service = this.#store.get('services', serviceId(this.#services))
    const version = service?.meta.version ?? 0
    const id = serviceId(this.#services)
    const tasks = this.#store.find('tasks', 'serviceId', id)
    return this.#commit(
      ...tasks.map((task): Action => {
        return { type: 'remove', table: 'tasks', id: task.id, version: task.meta.version }
      }),
      { type: 'remove', table: 'services', id, version },
    )
  }

  /** A node says again what is known of a task, with another time. */
  report(number: number): Promise<number> {
    const task = this.#task(number * 13 + 1, 3)
    return this.#commit(update(task, { status: { ...task.status, message: `seen ${number}` } }))
  }

  /** What happens every minute. */
  async check(): Promise<number> {
    const { kernel, plane } = this.#parts
    const beganMs = performance.now()
    await (kernel.name === 'ipvs' ? kernel.check() : kernel.verify())
    plane?.forget()
    await this.#planeReconciler?.ensure()
    return performance.now() - beganMs
  }

  async close(): Promise<void> {
    await this.#network.stop()
    await this.#planeReconciler?.stop()
    await this.#parts.balancer.close()
    await this.#parts.plane?.[Symbol.asyncDispose]()
    await this.#parts.remove()
  }

  #task(service: number, slot: number): Task {
    const id = serviceId(service % this.#services)
    const tasks = this.#store.find('tasks', 'serviceId', id)
    const elsewhere = tasks.filter(
      ({ nodeId, desiredState }) => nodeId !== HERE && desiredState === 'running',
    )
    return at(elsewhere, slot)
  }

  #populate(): void {
    this.#write([{ type: 'create', table: 'cluster', object: clusterDraft() }])
    for (let node = 0; node < NODES; node += 1) {
      const subnet = `10.${32 + (node >> 8)}.${node & 255}.0/24`
      const advertiseHost = `192.0.${2 + (node >> 8)}.${1 + (node & 255)}`
      const object = nodeDraft(nodeName(node), { subnet, advertiseHost })
      this.#write([{ type: 'create', table: 'nodes', object }])
    }
    const spec = { Name: NETWORK, Driver: 'overlay' }
    const object = { id: NETWORK, spec, subnet: '10.96.0.0/15' }
    this.#write([{ type: 'create', table: 'networks', object }])
    for (let service = 0; service < this.#services; service += 1) {
      this.#write(this.#serviceActions(service))
    }
  }

  #serviceActions(service: number): Action[] {
    const id = serviceId(service)
    const address = `10.${96 + (service >> 16)}.${(service >> 8) & 255}.${service & 255}`
    const publishedPort = FIRST_PORT + service
    const ports = service % PUBLISHED_EVERY === 0 ? [portOf(publishedPort)] : []
    const endpoint = {
      ports,
      allocatedFor: 0,
      virtualAddresses: [{ networkId: NETWORK, address }],
      networks: [{ networkId: NETWORK, aliases: [] }],
    }
    const object = { ...serviceDraft(id, serviceSpec(id)), endpoint }
    const tasks = Array.from({ length: BACKENDS }, (_, slot): Action => {
      return { type: 'create', table: 'tasks', object: this.#taskDraft(service, slot) }
    })
    return [{ type: 'create', table: 'services', object }, ...tasks]
  }

  #taskDraft(service: number, slot: number, fields: Partial<Draft<Task>> = {}): Draft<Task> {
    const node = (service + slot * 17) % NODES
    const number = service * BACKENDS + slot
    const host = 2 + (Math.floor(number / NODES) % 126)
    const block = Math.floor(number / NODES / 126)
    return taskDraft(`${serviceId(service)}t${slot}`, {
      serviceId: serviceId(service),
      serviceName: serviceId(service),
      slot: slot + 1,
      nodeId: nodeName(node),
      address: `10.${32 + block}.${node}.${host}`,
      networks: [{ networkId: NETWORK, aliases: [] }],
      status: STARTED,
      ...fields,
    })
  }

  #write(actions: readonly Action[]): void {
    writeTo(this.#store, ...actions)
  }

  #commit(...actions: Action[]): Promise<number> {
    return this.#applications.after(() => this.#write(actions))
  }
}

async function openKernel(
  tier: PathKernel,
  native: Native,
  netns: string,
): Promise<NftablesBalancer | IpvsBalancer> {
  const components = { native, clock: systemClock, log: silentLogger }
  const table = 'skein_bench_lb'
  if (tier === 'host') return NftablesBalancer.open(components, { table, netns })
  const marks = tier === 'uml' ? NO_MARKS : await NftMarks.open(native, { table, netns })
  return IpvsBalancer.open({ ...components, marks }, { netns })
}

function portOf(publishedPort: number): AllocatedPort {
  return { protocol: 'tcp', targetPort: 80, publishedPort, publishMode: 'ingress' }
}

function update(task: Task, fields: Partial<Draft<Task>>): Action {
  const { meta, ...draft } = task
  const object = { ...draft, ...fields }
  return { type: 'update', table: 'tasks', object, version: meta.version }
}

/** Another address of the same node that no other task has. */
function flipped(address: string): string {
  const [a, b, c, d = ''] = address.split('.')
  return [a, b, c, String(Number(d) ^ 128)].join('.')
}

function serviceId(number: number): string {
  return `s${String(number).padStart(6, '0')}`
}

function nodeName(number: number): string {
  return `node${String(number).padStart(3, '0')}`
}
