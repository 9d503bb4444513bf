/**
 * A task that is to stop, and three nodes that lead connections to it: real meshes, real balancers,
 * a real agent with real processes, and a replica of the store for each node.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { Agent } from '../agent/agent.ts'
import { chooseExecutor } from '../agent/choose-executor.ts'
import { imageOf, makeRootfs, oneImage, rootfsRefusal } from '../agent/testing/rootfs.ts'
import { TestCluster } from '../agent/testing/test-cluster.ts'
import { newIdentifier } from '../base/identifiers.ts'
import type { MeshHost } from '../mesh/mesh.ts'
import { components, connectAll, connected, loopbackMesh, pause } from '../mesh/testing/swarm.ts'
import { freePort } from '../network/conformance-peers.ts'
import { ACKNOWLEDGE_MS_MAX, DrainBarrier } from '../network/drain/drain-barrier.ts'
import { PROGRAMMED_METHOD, ProgrammedServer } from '../network/drain/question.ts'
import { NetworkReconciler } from '../network/network.ts'
import type { BalancerFault, LoadBalancer, ServerChange, VirtualServer } from '../network/ports.ts'
import { StreamDialer } from '../network/remote-dial.ts'
import { UserspaceBalancer } from '../network/userspace/balancer.ts'
import { Store } from '../store/store.ts'
import { FIXTURE_TIME, serviceDraft, serviceSpec } from '../store/testing/fixtures.ts'
import type { Action, ProposeOptions } from '../store/transaction.ts'
import { MeshPeerLinks } from './peer-links.ts'

const SUBNET = '10.213.47.0/24'
const SERVICE = 'published'
const base = await mkdtemp(join(tmpdir(), 'skein-drain-'))
const rootfs = join(base, 'rootfs')
const refusal = rootfsRefusal()
if (refusal === undefined) {
  await mkdir(rootfs)
  await makeRootfs(rootfs)
}
const real = refusal === undefined ? test.serial : test.serial.skip

test.after.always(() => rm(base, { recursive: true, force: true }))

/** Serves its port, and ends at its stop signal at once. */
const SCRIPT = 'httpd -f -p 127.0.0.1:$PORT & trap "kill $!; exit 0" TERM; wait'

/** One store that decides, and a replica for each other node. */
class ReplicatedCluster extends TestCluster {
  readonly replicas = [new Store(), new Store()]

  override async propose(
    actions: readonly Action[],
    options: ProposeOptions = {},
  ): Promise<{ readonly index: number }> {
    const requestId = options.requestId ?? newIdentifier(components.random)
    const result = await super.propose(actions, { ...options, requestId })
    const transaction = { requestId, at: FIXTURE_TIME, actions }
    for (const replica of this.replicas) replica.applyTransaction(transaction, result.index)
    return result
  }
}

/** A balancer whose host starves: each change takes longer. */
class SlowBalancer implements LoadBalancer {
  readonly name: LoadBalancer['name']
  readonly reason: string
  readonly hasVirtualAddresses: boolean
  readonly #inner: LoadBalancer
  delayMs = 0
  /** When the last change had ended. */
  endedMs = 0

  constructor(inner: LoadBalancer) {
    this.#inner = inner
    this.name = inner.name
    this.reason = inner.reason
    this.hasVirtualAddresses = inner.hasVirtualAddresses
  }

  apply(wanted: readonly VirtualServer[]): Promise<readonly BalancerFault[]> {
    return this.#slowly(() => this.#inner.apply(wanted))
  }

  change(change: ServerChange): Promise<readonly BalancerFault[]> {
    return this.#slowly(() => this.#inner.change(change))
  }

  close(): Promise<void> {
    return this.#inner.close()
  }

  async #slowly<T>(work: () => Promise<T>): Promise<T> {
    await pause(this.delayMs)
    const result = await work()
    this.endedMs = performance.now()
    return result
  }
}

interface Scene {
  readonly meshes: readonly MeshHost[]
  /** The other nodes'. */
  readonly others: readonly SlowBalancer[]
  /** Questions that other nodes were asked. */
  readonly questions: () => number
  /** A running task of the published service. */
  readonly run: () => Promise<string>
  /** Lets a task stop; when that was wanted, and when it had ended. */
  readonly stop: (id: string) => Promise<{ readonly wantedMs: number; readonly endedMs: number }>
}

/** A node's balancer, which follows a replica and says how far when it is asked. */
function balancing(mesh: MeshHost, store: Store, onAsked: () => void) {
  const dialer = new StreamDialer(() => Promise.reject(new Error('nothing connects here')))
  const balancer = new SlowBalancer(UserspaceBalancer.create({ ...components, dialer }))
  const { nodeId } = mesh.self
  nodes += 1
  const options = { nodeId, listenAddress: `127.0.47.${nodes}` }
  const network = new NetworkReconciler({ ...components, store, balancer }, options)
  const own = () => network.progress
  const server = new ProgrammedServer({ ...components, own })
  mesh.handle(PROGRAMMED_METHOD, (body) => {
    onAsked()
    return server.answer(body)
  })
  network.start()
  const close = async (): Promise<void> => {
    await network.stop()
    await balancer.close()
  }
  return { balancer, own, close }
}

let nodes = 0

async function startAgent(cluster: TestCluster, nodeId: string, balancers: DrainBarrier) {
  const swarm = { nodeId: () => nodeId, addressPools: () => [] }
  const dataDirectory = await mkdtemp(join(base, 'data-'))
  const executor = await chooseExecutor(components, { dataDirectory, wanted: 'process', swarm })
  const images = oneImage(imageOf(rootfs))
  const { store } = cluster
  const parts = { ...components, store, proposer: cluster, images, executor, balancers }
  const agent = new Agent(parts, { nodeId, dataDirectory })
  await agent.start()
  return agent
}

/** Three nodes; the agent is the first one's. */
async function scene(t: ExecutionContext): Promise<Scene> {
  const [first, ...others] = [await loopbackMesh(), await loopbackMesh(), await loopbackMesh()]
  const meshes = [first, ...others]
  const { nodeId } = first.self
  const cluster = new ReplicatedCluster()
  await cluster.begin(nodeId, SUBNET)
  const published = { protocol: 'tcp', targetPort: 80, publishMode: 'ingress' } as const
  const ports = [{ ...published, publishedPort: await freePort() }]
  const endpoint = { ports, allocatedFor: 0 }
  const object = { ...serviceDraft(SERVICE, serviceSpec(SERVICE)), endpoint }
  await cluster.propose([{ type: 'create', table: 'services', object }])
  let asked = 0
  const onAsked = (): void => void (asked += 1)
  const { store, replicas } = cluster
  const here = balancing(first, store, onAsked)
  const there = others.map((mesh, index) => balancing(mesh, replicas[index] ?? store, onAsked))
  connectAll(meshes)
  await connected(meshes)
  const peers = new MeshPeerLinks(first)
  const barrier = new DrainBarrier({ ...components, store, peers, own: here.own })
  const agent = await startAgent(cluster, nodeId, barrier)
  t.teardown(async () => {
    for (const one of [here, ...there]) await one.close()
    await agent.removeAll()
    barrier.close()
    for (const mesh of meshes) await mesh.close()
  })
  return {
    meshes,
    others: there.map(({ balancer }) => balancer),
    questions: () => asked,
    async run() {
      const container = { Image: 'busybox:1', Command: ['sh', '-c', SCRIPT] }
      const fields = { serviceId: SERVICE, ports }
      const id = await cluster.assign(nodeId, { ContainerSpec: container }, fields)
      await cluster.untilState(id, 'running')
      return id
    },
    async stop(id) {
      const wantedMs = performance.now()
      await cluster.desire(id, 'shutdown')
      await cluster.untilState(id, 'shutdown')
      return { wantedMs, endedMs: performance.now() }
    },
  }
}

real(
  'a task gets its stop signal when the slowest node has let go of it, and not before',
  async (t) => {
    const { others, run, stop } = await scene(t)
    const id = await run()
    const [starved] = others
    if (starved === undefined) throw new Error('no balancer')
    await pause(50)
    starved.delayMs = 1_500
    const { wantedMs, endedMs } = await stop(id)
    t.true(starved.endedMs - wantedMs >= 1_500)
    t.true(endedMs >= starved.endedMs, 'it lived as long as connections were led to it')
    t.true(endedMs - wantedMs < ACKNOWLEDGE_MS_MAX, `${endedMs - wantedMs} ms`)
  },
)

real('a task is stopped after a while whatever a node does', async (t) => {
  const { others, run, stop } = await scene(t)
  const id = await run()
  await pause(50)
  for (const balancer of others) balancer.delayMs = 2 * ACKNOWLEDGE_MS_MAX
  const { wantedMs, endedMs } = await stop(id)
  for (const balancer of others) balancer.delayMs = 0
  const tookMs = endedMs - wantedMs
  t.true(tookMs >= ACKNOWLEDGE_MS_MAX, `${tookMs} ms`)
  t.true(tookMs < 2 * ACKNOWLEDGE_MS_MAX, `${tookMs} ms`)
})

real('nodes that are gone hold nothing up, and tasks that stop together ask once', async (t) => {
  const { meshes, questions, run, stop } = await scene(t)
  const ids = await Promise.all([1, 2, 3, 4, 5, 6].map(() => run()))
  const together = await Promise.all(ids.slice(0, 5).map((id) => stop(id)))
  t.true(questions() <= 2 * (meshes.length - 1), `${questions()} questions for five tasks`)
  const before = questions()
  await Promise.all(meshes.slice(1).map((mesh) => mesh.close()))
  while (meshes[0]?.peers().some(({ reachable }) => reachable)) await pause(10)
  const alone = await stop(ids[5] ?? '')
  t.is(questions(), before)
  for (const { wantedMs, endedMs } of [...together, alone]) {
    t.log(`${Math.round(endedMs - wantedMs)} ms`)
    t.true(endedMs - wantedMs < ACKNOWLEDGE_MS_MAX / 2, `${endedMs - wantedMs} ms`)
  }
})
