/**
 * A process that runs an agent and nothing else, to be killed with SIGKILL by a test. Its cluster
 * is a store of its own with one task, given by the arguments; when the task runs, it prints one
 * JSON line.
 */
import { systemClock } from '../../base/clock.ts'
import { silentLogger } from '../../base/log.ts'
import { systemRandom } from '../../base/random.ts'
import type { TaskSpec } from '../../store/spec.ts'
import { Agent } from '../agent.ts'
import { chooseExecutor } from '../choose-executor.ts'
import { imageOf, oneImage } from './rootfs.ts'
import { TestCluster } from './test-cluster.ts'

/** What the test gives as the one argument, in JSON. */
export interface DaemonArguments {
  readonly nodeId: string
  readonly dataDirectory: string
  readonly rootfs: string
  readonly subnet: string
  readonly address: string
  readonly wanted: 'auto' | 'process'
  readonly spec: TaskSpec
}

const given = JSON.parse(process.argv[2] ?? '{}') as DaemonArguments
const components = { clock: systemClock, random: systemRandom, log: silentLogger }
const cluster = new TestCluster()
await cluster.begin(given.nodeId, given.subnet)
const executor = await chooseExecutor(components, {
  dataDirectory: given.dataDirectory,
  wanted: given.wanted,
  swarm: { nodeId: () => given.nodeId, addressPools: () => [] },
})
const agent = new Agent(
  {
    ...components,
    store: cluster.store,
    proposer: cluster,
    executor,
    images: oneImage(imageOf(given.rootfs)),
  },
  given,
)
await agent.start()
const id = await cluster.assign(given.nodeId, given.spec, { address: given.address })
const task = await cluster.untilState(id, 'running')
process.stdout.write(`${JSON.stringify({ id, pid: task.status.container?.pid })}\n`)
// Stays until it is killed; the agent's watches alone do not keep a process alive.
setInterval(() => {}, 1_000_000)
