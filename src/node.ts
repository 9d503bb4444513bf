/**
 * The composition root: builds every component, and owns the order of start and stop.
 *
 *   lock ─► log ─► executor probe ─► images ─► swarm (mesh, raft, agent, network) ─► API
 *
 * Stopped in reverse by SIGTERM or SIGINT; a second signal ends the process at once. Containers
 * outlive all of it. The only place that names the system's clock and random numbers.
 */
import { join } from 'node:path'
import { pino } from 'pino'
import { chooseExecutor } from './agent/choose-executor.ts'
import { createApiServer } from './api/server.ts'
import type { ApiComponents, LogReader } from './api/ports.ts'
import { systemClock } from './base/clock.ts'
import { SwarmError } from './base/errors.ts'
import type { Logger } from './base/log.ts'
import { systemRandom } from './base/random.ts'
import type { DaemonOptions } from './cli/daemon-options.ts'
import { Swarm } from './cluster/swarm.ts'
import { ImageStore } from './image/image-store.ts'
import { AddressWatch } from './node/address-watch.ts'
import { NodeAttachment } from './node/attachment.ts'
import type { AttachmentComponents } from './node/attachment.ts'
import { lockDataDirectory } from './node/data-lock.ts'
import { describeNode, hostAddresses } from './node/describe.ts'
import { assertFreeSpace } from './node/free-space.ts'
import { KernelNetwork } from './node/kernel-network.ts'
import { textLogStream } from './node/log-text.ts'
import { MeshImagePeers } from './node/mesh-image-peers.ts'
import { openPortReader } from './node/open-ports.ts'
import { purgeNode, removeTasks } from './node/purge.ts'
import { LateSwarmFacts } from './node/swarm-facts.ts'
import { loadNative } from './network/netlink/native.ts'
import type { NodeDescription } from './store/objects.ts'

const system = { clock: systemClock, random: systemRandom }

/** Runs a daemon until a signal ends it. @throws what kept it from starting */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  const log = openLog(options)
  const ended = Promise.withResolvers<NodeJS.Signals>()
  process.on('SIGTERM', ended.resolve)
  process.on('SIGINT', ended.resolve)
  await using running = await startNode(options, log)
  log.info({ dataDirectory: options.dataDirectory }, 'ready')
  const signal = await ended.promise
  log.info({ signal }, 'stopping')
  process.on('SIGTERM', () => process.exit(1))
  process.on('SIGINT', () => process.exit(1))
  await running.disposeAsync()
  log.info({}, 'stopped')
}

/** Ends the daemon of a data directory and removes all that it left. See `node/purge.ts`. */
export function purge(options: DaemonOptions): Promise<void> {
  return purgeNode({ ...system, log: openLog(options) }, options)
}

function openLog(options: DaemonOptions): Logger {
  const settings = { level: options.logLevel, base: null, timestamp: pino.stdTimeFunctions.isoTime }
  return options.logFormat === 'json' ? pino(settings) : pino(settings, textLogStream())
}

/** Starts everything in order; what started is undone in reverse when something later fails. */
async function startNode(options: DaemonOptions, log: Logger): Promise<AsyncDisposableStack> {
  const { dataDirectory } = options
  await using started = new AsyncDisposableStack()
  const lock = await lockDataDirectory(dataDirectory)
  started.defer(() => lock.release())
  await assertFreeSpace(dataDirectory)
  const imagePeers = new MeshImagePeers()
  const facts = new LateSwarmFacts()
  const kernel = await KernelNetwork.probe({ ...system, log, swarm: facts }, options)
  started.use(kernel)
  const native = loadNative()
  const watched = { ...system, log, read: hostAddresses }
  const addresses = started.use(await AddressWatch.open(watched, native))
  const networks = kernel.taskNetworks
  const [executor, images] = await Promise.all([
    chooseExecutor({ ...system, log, networks }, { dataDirectory, swarm: facts }),
    ImageStore.open(
      { ...system, log, peers: imagePeers },
      { directory: join(dataDirectory, 'images') },
    ),
  ])
  started.defer(() => images.close())
  log.info({ executor: executor.name, reason: executor.reason }, 'executor chosen')
  log.info({ ...kernel.choice }, 'balancer chosen')
  const openPorts = openPortReader(native)
  const parts = { ...system, log, executor, images, imagePeers, kernel, addresses, ...openPorts }
  const swarm = await openSwarm(options, parts, facts)
  started.defer(() => swarm.close())
  // A node that ended on its way into a swarm or out of one.
  if (swarm.status().state === 'inactive' && (await kernel.claimant()) !== undefined) {
    await kernel.leaveOrSay()
  }
  const api = await createApiServer(apiComponents(parts, swarm, options), options)
  started.defer(() => api.close())
  return started.move()
}

interface Parts extends AttachmentComponents {
  readonly images: ImageStore
  readonly addresses: AddressWatch
}

function openSwarm(
  options: DaemonOptions,
  parts: Parts,
  facts: LateSwarmFacts,
): Promise<NodeSwarm> {
  const { dataDirectory } = options
  const describe = describer(parts, options.hostname)
  return Swarm.open<NodeAttachment>(
    {
      ...parts,
      describe,
      onHostChange: (told) => parts.addresses.onChange(told),
      attach: (member, addresses) => {
        facts.member = member
        return NodeAttachment.start(parts, member, { dataDirectory, addresses })
      },
      abandonTasks: async (nodeId) => {
        facts.formerNodeId = nodeId
        await removeTasks(parts.executor, dataDirectory)
        await parts.kernel.leaveOrSay()
      },
    },
    options,
  )
}

type NodeSwarm = Swarm<NodeAttachment>

function describer({ executor, kernel }: Parts, hostname: string): () => NodeDescription {
  const { driver, reason } = kernel.choice
  const description = describeNode({
    hostname,
    executor: { name: executor.name, isolation: executor.isolation, reason: executor.reason },
    balancer: { name: driver, reason },
  })
  return () => ({ ...description, addresses: hostAddresses() })
}

function apiComponents(parts: Parts, swarm: NodeSwarm, options: DaemonOptions): ApiComponents {
  return {
    ...system,
    log: parts.log,
    swarm,
    images: parts.images,
    dataDirectory: options.dataDirectory,
    describe: describer(parts, options.hostname),
    logs: { read: (...asked) => memberLogs(swarm).read(...asked) },
    context: () => swarm.member,
    networkFaults: () => swarm.attachment?.networkFaults() ?? [],
    containerCounts: () => swarm.attachment?.agent.containerCounts() ?? { running: 0, total: 0 },
  }
}

function memberLogs(swarm: NodeSwarm): LogReader {
  if (swarm.attachment !== undefined) return swarm.attachment.logs
  throw new SwarmError('NOT_SWARM_MEMBER', 'logs: this node is in no swarm')
}
