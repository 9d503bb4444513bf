/**
 * Where the agents of one test file run real tasks: a folder, an image, an identity, a subnet and
 * the executor of this machine. Files run at the same time, so each has a subnet of its own.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { systemClock } from '../../base/clock.ts'
import { newIdentifier } from '../../base/identifiers.ts'
import { silentLogger } from '../../base/log.ts'
import { systemRandom } from '../../base/random.ts'
import type { RestartPolicy, TaskSpec } from '../../store/spec.ts'
import { Agent } from '../agent.ts'
import { chooseExecutor } from '../choose-executor.ts'
import type { Executor } from '../ports.ts'
import { imageOf, makeRootfs, oneImage, rootfsRefusal } from './rootfs.ts'
import { TestCluster } from './test-cluster.ts'

const DEADLINE_MS = 15_000
const POLL_MS = 20
const components = { clock: systemClock, random: systemRandom, log: silentLogger }

export const NEVER: RestartPolicy = { Condition: 'none' }
export const AT_ONCE: RestartPolicy = { Condition: 'any', Delay: 0 }

/** As `daemon --executor` takes it. */
export type ExecutorKind = 'auto' | 'process'

/** What all tests of a file share. */
export class AgentGround {
  readonly nodeId = newIdentifier(systemRandom)
  readonly base: string
  readonly rootfs: string
  /** The first three numbers of every address. */
  readonly #prefix: string
  /** Of the kinds that were wanted, in that order; none where tasks cannot run. */
  readonly executors: Executor[] = []
  #nextHost = 10

  private constructor(base: string, prefix: string) {
    this.base = base
    this.rootfs = join(base, 'rootfs')
    this.#prefix = prefix
  }

  /** Makes the image and chooses executors, if tasks can run here; removes all at the end. */
  static async prepare(
    name: string,
    prefix: string,
    kinds: readonly ExecutorKind[] = ['auto'],
  ): Promise<AgentGround> {
    const base = await mkdtemp(join(tmpdir(), `skein-agent-${name}-`))
    const ground = new AgentGround(base, prefix)
    const refusal = process.getuid?.() === 0 ? rootfsRefusal() : 'not root'
    if (refusal === undefined) {
      await mkdir(ground.rootfs)
      await makeRootfs(ground.rootfs)
      for (const kind of kinds) ground.executors.push(await ground.chooseExecutor(base, kind))
    } else {
      test.skip(`agents cannot run tasks here: ${refusal}`, (t) => t.pass())
    }
    test.after.always(async () => {
      for (const executor of ground.executors) await executor.dispose()
      await rm(base, { recursive: true, force: true })
    })
    return ground
  }

  /** Declares a test of real tasks. */
  get test(): typeof test.serial | typeof test.serial.skip {
    return this.executors.length === 0 ? test.serial.skip : test.serial
  }

  get subnet(): string {
    return `${this.#prefix}.0/24`
  }

  nextAddress(): string {
    this.#nextHost += 1
    return `${this.#prefix}.${this.#nextHost}`
  }

  /** An executor over this directory, as a daemon chooses it. */
  chooseExecutor(dataDirectory: string, wanted: ExecutorKind = 'auto'): Promise<Executor> {
    const swarm = { nodeId: () => this.nodeId, addressPools: () => [] }
    return chooseExecutor(components, { dataDirectory, wanted, swarm })
  }

  /** An agent that runs, by the shared executor if no other is given. */
  async start(
    cluster: TestCluster,
    dataDirectory: string,
    executor = this.executors[0],
  ): Promise<Agent> {
    if (executor === undefined) throw new Error('no executor')
    const images = oneImage(imageOf(this.rootfs))
    const parts = { ...components, store: cluster.store, proposer: cluster, images, executor }
    const agent = new Agent(parts, { nodeId: this.nodeId, dataDirectory })
    await agent.start()
    return agent
  }

  /** A cluster and an agent in it, for one test. */
  async world(
    t: ExecutionContext,
    cluster = new TestCluster(),
    directory?: string,
  ): Promise<World> {
    const dataDirectory = directory ?? (await mkdtemp(join(this.base, 'data-')))
    if (cluster.store.index === 0) await cluster.begin(this.nodeId, this.subnet)
    const world = new World(this, cluster, dataDirectory, await this.start(cluster, dataDirectory))
    t.teardown(() => world.agent.removeAll())
    return world
  }
}

/** A cluster with one node, and the agent that runs on it now. */
export class World {
  readonly cluster: TestCluster
  readonly dataDirectory: string
  agent: Agent
  readonly #ground: AgentGround

  constructor(ground: AgentGround, cluster: TestCluster, dataDirectory: string, agent: Agent) {
    this.#ground = ground
    this.cluster = cluster
    this.dataDirectory = dataDirectory
    this.agent = agent
  }

  /** Stops the agent and starts another one over the same directory, as a restart of the daemon. */
  async restart(): Promise<void> {
    await this.agent.stop()
    this.agent = await this.#ground.start(this.cluster, this.dataDirectory)
  }

  /** Assigns a task that runs the script; its id. */
  run({ script, ...spec }: Partial<TaskSpec> & { readonly script: string }): Promise<string> {
    const container = { Image: 'busybox:1', Command: ['sh', '-c', script], StopGracePeriod: 3e8 }
    const ContainerSpec = { ...container, ...spec.ContainerSpec }
    const address = this.#ground.nextAddress()
    return this.cluster.assign(this.#ground.nodeId, { ...spec, ContainerSpec }, { address })
  }
}

/** Waits for a condition; fails when it takes too long. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
): Promise<void> {
  const deadline = systemClock.monotonicMs() + DEADLINE_MS
  while (!(await condition())) {
    if (systemClock.monotonicMs() > deadline) throw new Error(`not in time: ${what}`)
    await new Promise((resolve) => {
      setTimeout(resolve, POLL_MS)
    })
  }
}

/** All values of a stream that ends. */
export async function collect<T>(values: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = []
  for await (const value of values) list.push(value)
  return list
}

/** The lines that a task has written. */
export async function logOf(world: World, taskId: string): Promise<string[]> {
  return (await collect(world.agent.readLogs(taskId))).map(({ line }) => line)
}
