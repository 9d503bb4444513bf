/**
 * For tests of `api/` and `cli/`: an API server over a real store, with one node, an in-process
 * proposer, a membership of one, images in memory, and a small orchestrator that runs every task at
 * once. Not part of the daemon.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SwarmError } from '../../base/errors.ts'
import { systemClock, wallTimeText } from '../../base/clock.ts'
import { newIdentifier } from '../../base/identifiers.ts'
import { silentLogger } from '../../base/log.ts'
import { seededRandom } from '../../base/random.ts'
import type { Random } from '../../base/random.ts'
import type { ImageSummary, Images } from '../../image/ports.ts'
import type { NodeDescription, Service, Task } from '../../store/objects.ts'
import { Store } from '../../store/store.ts'
import type { Action, ProposeOptions, Proposer } from '../../store/transaction.ts'
import type { ApiComponents, InitRequest, SwarmControl, SwarmStatus } from '../ports.ts'
import { createApiServer } from '../server.ts'

/** What the fixture's only node says of itself. */
export const DESCRIPTION: NodeDescription = {
  hostname: 'goose',
  platform: { os: 'linux', architecture: 'x86_64' },
  resources: { nanoCpus: 2e9, memoryBytes: 4 * 1024 ** 3 },
  engineVersion: '0.1.0',
  engineLabels: {},
  executor: { name: 'process', isolation: 'process', reason: 'test' },
  balancer: { name: 'userspace', reason: 'test' },
}

const INACTIVE: SwarmStatus = {
  state: 'inactive',
  nodeId: '',
  nodeAddress: '',
  controlAvailable: false,
  error: '',
  remoteManagers: [],
}

const TOKEN_DIGEST = '1yqdk51wvhu2jowxkvgfft3r2n3e7ynuzqh16lmwqn3lq9dz46'

/** Applies transactions to the store at once, one entry each. */
export class LocalProposer implements Proposer {
  readonly store: Store
  readonly #random: Random

  constructor(store: Store, random: Random) {
    this.store = store
    this.#random = random
  }

  propose(
    actions: readonly Action[],
    options: ProposeOptions = {},
  ): Promise<{ readonly index: number }> {
    const result = this.store.applyTransaction(
      {
        requestId: options.requestId ?? newIdentifier(this.#random),
        at: wallTimeText(systemClock.wallMs()),
        actions,
      },
      this.store.index + 1,
    )
    if (result.ok) return Promise.resolve({ index: result.index })
    return Promise.reject(new SwarmError(result.code, result.message))
  }
}

/** A swarm of one. */
export class LocalSwarm implements SwarmControl {
  readonly store = new Store()
  readonly random = seededRandom(7)
  readonly proposer = new LocalProposer(this.store, this.random)
  #status = INACTIVE
  #secrets = { worker: 1, manager: 1 }
  /** Roles of the one-time tokens that were made. */
  readonly onceTokens: string[] = []

  status(): SwarmStatus {
    return this.#status
  }

  /** For tests of what a worker refuses. */
  setControlAvailable(controlAvailable: boolean): void {
    this.#status = { ...this.#status, controlAvailable }
  }

  async init(request: InitRequest): Promise<string> {
    if (this.#status.state === 'active') throw new SwarmError('ALREADY_SWARM_MEMBER', 'member')
    const nodeId = newIdentifier(this.random)
    const host = (request.advertiseAddress || '127.0.0.1').replace(/:\d+$/, '')
    await this.proposer.propose([
      {
        type: 'create',
        table: 'cluster',
        object: {
          id: newIdentifier(this.random),
          spec: request.spec ?? { Name: 'default' },
          rootPublicKey: this.random.bytes(32),
          sealedSecrets: new Uint8Array(),
          addressPools: request.addressPools,
          subnetSize: request.subnetSize,
        },
      },
    ])
    this.#status = {
      state: 'active',
      nodeId,
      nodeAddress: host,
      controlAvailable: true,
      error: '',
      remoteManagers: [{ nodeId, address: `${host}:2377` }],
    }
    await this.addNode({ id: nodeId, role: 'manager', host })
    return nodeId
  }

  /** Adds a member that only exists in the store. */
  async addNode(node: {
    readonly id?: string
    readonly role: 'manager' | 'worker'
    readonly host: string
    readonly state?: 'ready' | 'down'
    readonly hostname?: string
  }): Promise<string> {
    const id = node.id ?? newIdentifier(this.random)
    await this.proposer.propose([
      {
        type: 'create',
        table: 'nodes',
        object: {
          id,
          spec: { Labels: {}, Role: node.role, Availability: 'active' },
          peerId: `12D3Koo${id}`,
          addresses: [`/ip4/${node.host}/tcp/2377`],
          advertiseHost: node.host,
          description: { ...DESCRIPTION, hostname: node.hostname ?? DESCRIPTION.hostname },
          status: { state: node.state ?? 'ready', message: '' },
        },
      },
    ])
    return id
  }

  join(request: { readonly token: string }): Promise<void> {
    if (this.#status.state === 'active') {
      return Promise.reject(new SwarmError('ALREADY_SWARM_MEMBER', 'member'))
    }
    if (!/^SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}$/.test(request.token)) {
      return Promise.reject(new SwarmError('INVALID_ARGUMENT', 'invalid join token'))
    }
    this.#status = {
      ...INACTIVE,
      state: 'active',
      nodeId: newIdentifier(this.random),
      nodeAddress: '127.0.0.3',
    }
    return Promise.resolve()
  }

  leave(options: { readonly force: boolean }): Promise<void> {
    if (this.#status.state !== 'active') {
      return Promise.reject(new SwarmError('NOT_SWARM_MEMBER', 'none'))
    }
    if (this.#status.controlAvailable && !options.force) {
      return Promise.reject(
        new SwarmError(
          'FAILED_PRECONDITION',
          'You are attempting to leave the swarm on a node that is participating as a manager. ' +
            'Use `--force` to suppress this message.',
        ),
      )
    }
    this.#status = INACTIVE
    return Promise.resolve()
  }

  joinTokens(): Promise<{ readonly worker: string; readonly manager: string }> {
    const token = (kind: 'worker' | 'manager'): string =>
      `SWMTKN-1-${TOKEN_DIGEST}-${`${kind}${this.#secrets[kind]}`.padEnd(25, '0')}`
    return Promise.resolve({ worker: token('worker'), manager: token('manager') })
  }

  onceToken(role: 'worker' | 'manager'): Promise<string> {
    const secret = newIdentifier(this.random)
    this.onceTokens.push(role)
    return Promise.resolve(`SWMTKN-1-${TOKEN_DIGEST}-${secret}`)
  }

  rotateJoinTokens(which: { readonly worker: boolean; readonly manager: boolean }): Promise<void> {
    this.#secrets = {
      worker: this.#secrets.worker + (which.worker ? 1 : 0),
      manager: this.#secrets.manager + (which.manager ? 1 : 0),
    }
    return Promise.resolve()
  }

  leaderId(): string | undefined {
    return this.#status.nodeId === '' ? undefined : this.#status.nodeId
  }

  reachability(): 'reachable' {
    return 'reachable'
  }
}

/** Images as `load` names them: the tar's text is the tag. */
export class MemoryImages implements Images {
  readonly #images = new Map<string, ImageSummary>()

  add(tag: string, digest = `sha256:${'a'.repeat(64)}`): void {
    this.#images.set(tag, {
      id: `sha256:${'b'.repeat(64)}`,
      digest,
      tags: [tag],
      sizeBytes: 1_984_132,
      createdAt: wallTimeText(systemClock.wallMs()),
      labels: {},
      platform: { os: 'linux', architecture: 'amd64' },
    })
  }

  ensure(): Promise<never> {
    return Promise.reject(new SwarmError('UNIMPLEMENTED', 'images: fixture'))
  }

  find(reference: string): Promise<ImageSummary | undefined> {
    const found = [...this.#images.values()].find(
      (image) => image.tags.includes(reference) || image.id.startsWith(`sha256:${reference}`),
    )
    return Promise.resolve(found)
  }

  async resolve(reference: string): ReturnType<Images['resolve']> {
    const image = await this.find(reference)
    if (image === undefined) return undefined
    return { digest: image.digest, platforms: [image.platform] }
  }

  list(): Promise<ImageSummary[]> {
    return Promise.resolve([...this.#images.values()])
  }

  async *load(tar: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
    const chunks: Uint8Array[] = []
    for await (const chunk of tar) chunks.push(chunk)
    const tag = Buffer.concat(chunks).toString('utf8').trim()
    if (!/^[a-z0-9./:-]+$/.test(tag)) {
      throw new SwarmError('INVALID_ARGUMENT', 'image archive: not a tar')
    }
    this.add(tag)
    yield `Loaded image: ${tag}`
  }

  remove(reference: string): Promise<{ untagged: string[]; deleted: string[] }> {
    this.#images.delete(reference)
    return Promise.resolve({ untagged: [reference], deleted: [] })
  }
}

/** Makes the tasks that a service wants, running, whenever a service changes. */
export function runEverything(swarm: LocalSwarm): () => void {
  return swarm.store.onCommit((commit) => {
    if (commit.type !== 'changes') return
    for (const change of commit.changes) {
      if (change.table !== 'services') continue
      const { after } = change
      queueMicrotask(() => {
        void swarm.proposer.propose(taskActions(swarm, change.id, after))
      })
    }
  })
}

function taskActions(swarm: LocalSwarm, serviceId: string, service?: Service): Action[] {
  const present = swarm.store.find('tasks', 'serviceId', serviceId)
  const wanted = service?.spec.Mode?.Replicated?.Replicas ?? 0
  const gone = present.filter((task) => task.slot > wanted)
  const slots = new Set(present.map((task) => task.slot))
  const missing = Array.from({ length: wanted }, (_, index) => index + 1).filter(
    (slot) => !slots.has(slot),
  )
  return [
    ...allocation(service),
    ...gone.map((task) => ({ type: 'remove', table: 'tasks', id: task.id }) as const),
    ...(service === undefined ? [] : missing.map((slot) => newTask(swarm, service, slot))),
  ]
}

/** What the allocator would write: the published ports as asked for. */
function allocation(service?: Service): Action[] {
  const ports = service?.spec.EndpointSpec?.Ports ?? []
  if (service === undefined || service.endpoint !== undefined || ports.length === 0) return []
  const { meta, ...draft } = service
  const allocated = ports.map((port) => ({
    protocol: port.Protocol ?? 'tcp',
    targetPort: port.TargetPort,
    publishedPort: port.PublishedPort ?? 30_000,
    publishMode: port.PublishMode ?? 'ingress',
  }))
  const endpoint = { ports: allocated, allocatedFor: service.specVersion }
  const object = { ...draft, endpoint }
  return [{ type: 'update', table: 'services', object, version: meta.version }]
}

function newTask(swarm: LocalSwarm, service: Service, slot: number): Action {
  const unschedulable = (service.spec.TaskTemplate.Placement?.Constraints ?? []).length > 0
  const object: Omit<Task, 'meta'> = {
    id: newIdentifier(swarm.random),
    serviceId: service.id,
    slot,
    nodeId: unschedulable ? '' : swarm.status().nodeId,
    spec: service.spec.TaskTemplate,
    specVersion: service.specVersion,
    serviceName: service.spec.Name,
    desiredState: 'running',
    status: {
      state: unschedulable ? 'pending' : 'running',
      timestamp: wallTimeText(systemClock.wallMs()),
      message: unschedulable ? 'pending task scheduling' : 'started',
      ...(unschedulable
        ? { err: 'no suitable node (scheduling constraints not satisfied on 1 node)' }
        : { container: { id: 'c'.repeat(64), pid: 42 } }),
    },
    ports: [],
    attempt: 0,
  }
  return { type: 'create', table: 'tasks', object }
}

/** A running server and what it stands on. */
export interface ApiFixture {
  readonly swarm: LocalSwarm
  readonly images: MemoryImages
  readonly components: ApiComponents
  readonly socketPath: string
  close(): Promise<void>
}

/** Starts a server on a socket in a temporary folder. */
export async function startFixture(extra: Partial<ApiComponents> = {}): Promise<ApiFixture> {
  const directory = await mkdtemp(join(tmpdir(), 'skein-api-'))
  const socketPath = join(directory, 'skein.sock')
  const swarm = new LocalSwarm()
  const images = new MemoryImages()
  const components: ApiComponents = {
    swarm,
    context: () => {
      const { state, nodeId } = swarm.status()
      return state === 'active'
        ? { nodeId, store: swarm.store, proposer: swarm.proposer }
        : undefined
    },
    images,
    describe: () => DESCRIPTION,
    containerCounts: () => ({ running: 0, total: 0 }),
    dataDirectory: directory,
    clock: systemClock,
    random: seededRandom(11),
    log: silentLogger,
    ...extra,
  }
  const stop = runEverything(swarm)
  const server = await createApiServer(components, { socketPath })
  return {
    swarm,
    images,
    components,
    socketPath,
    close: async () => {
      stop()
      await server.close()
      await rm(directory, { recursive: true, force: true })
    },
  }
}
