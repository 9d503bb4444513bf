/**
 * What a member does besides being one: runs its tasks, gives out their
 * logs, answers published ports, and shares images.
 * Started when the node is in the swarm, stopped before it leaves or the daemon ends.
 */
import { networkInterfaces } from 'node:os'
import type { Clock } from '../base/clock.ts'
import type { Logger } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import { Agent } from '../agent/agent.ts'
import type { OpenPortReader } from '../agent/health/listening.ts'
import type { Executor } from '../agent/ports.ts'
import type { NodeAddresses } from '../cluster/advertise.ts'
import type { SwarmMember } from '../cluster/member.ts'
import type { Attachment } from '../cluster/swarm.ts'
import type { Images } from '../image/ports.ts'
import { DrainBarrier } from '../network/drain/drain-barrier.ts'
import { PROGRAMMED_METHOD, ProgrammedServer } from '../network/drain/question.ts'
import { DIAL_METHOD, DialServer, StreamDialer } from '../network/remote-dial.ts'
import type { KernelNetwork } from './kernel-network.ts'
import { LOGS_METHOD } from './log-protocol.ts'
import { SwarmLogReader } from './log-reader.ts'
import { LogServer } from './log-server.ts'
import { MemberNetwork } from './member-network.ts'
import type { MeshImagePeers } from './mesh-image-peers.ts'
import { MeshPeerLinks } from './peer-links.ts'

/**
 * Milliseconds that other nodes' requests to tasks of this node may take to end when it stops: an
 * upgrade breaks no short one, and a long one does not hold it up.
 */
const DRAIN_MS = 1_000

/** What an attachment is built from. */
export interface AttachmentComponents {
  readonly executor: Executor
  readonly images: Images
  readonly imagePeers: MeshImagePeers
  readonly kernel: KernelNetwork
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly openPorts?: OpenPortReader
}

/** Agent, network, logs and image exchange of one membership. */
export class NodeAttachment implements Attachment {
  readonly agent: Agent
  readonly logs: SwarmLogReader
  readonly #logServer: LogServer
  readonly #imagePeers: MeshImagePeers
  readonly #startNetwork: () => Promise<MemberNetwork>
  #network: MemberNetwork | undefined
  readonly #dialServer: DialServer
  readonly #kernel: KernelNetwork
  readonly #drainBarrier: DrainBarrier

  private constructor(
    components: AttachmentComponents,
    member: SwarmMember,
    options: { readonly dataDirectory: string; readonly addresses: NodeAddresses },
  ) {
    const { clock, random, log, executor, images, openPorts } = components
    const { nodeId, store, proposer, mesh } = member
    const shared = { store, proposer, clock, random, log }
    const links = new MeshPeerLinks(mesh)
    const own = () => this.#network?.programmed
    const programmed = new ProgrammedServer({ clock, own })
    mesh.handle(PROGRAMMED_METHOD, (body) => programmed.answer(body))
    this.#drainBarrier = new DrainBarrier({ store, clock, log, own, peers: links })
    this.agent = new Agent(
      {
        ...shared,
        executor,
        images,
        balancers: this.#drainBarrier,
        ...(openPorts === undefined ? {} : { openPorts }),
      },
      {
        nodeId,
        dataDirectory: options.dataDirectory,
        resolver: async () => await this.#network?.resolver(),
      },
    )
    this.logs = new SwarmLogReader({ store, agent: this.agent, mesh, clock }, { nodeId })
    this.#logServer = new LogServer({ store, agent: this.agent })
    mesh.handleStream(LOGS_METHOD, (header, stream) => this.#logServer.serve(header, stream))
    this.#imagePeers = components.imagePeers
    const dialer = new StreamDialer((to, request, { signal }) =>
      mesh.openStream(to, DIAL_METHOD, request, { signal }),
    )
    this.#dialServer = new DialServer({ store, clock }, { nodeId })
    mesh.handleStream(DIAL_METHOD, (header, stream) => this.#dialServer.serve(header, stream))
    const { kernel } = components
    this.#kernel = kernel
    const parts = { ...shared, kernel, dialer, ownTasks: this.agent, links }
    const listenAddress = publishedOn(options.addresses.listen.host)
    const hasIpv6 = isIpv6Host()
    this.#startNetwork = () => MemberNetwork.start(parts, { nodeId, listenAddress, hasIpv6 })
  }

  static async start(
    components: AttachmentComponents,
    member: SwarmMember,
    options: { readonly dataDirectory: string; readonly addresses: NodeAddresses },
  ): Promise<NodeAttachment> {
    const attachment = new NodeAttachment(components, member, options)
    await components.kernel.claim(member.nodeId)
    components.imagePeers.attach(member.mesh)
    attachment.#network = await attachment.#startNetwork()
    await attachment.agent.start()
    return attachment
  }

  /** What of the network does not work on this node, for people. */
  networkFaults(): readonly string[] {
    return this.#network?.faults() ?? []
  }

  async stop(options: { readonly purge: boolean }): Promise<void> {
    this.#logServer.close()
    const stopped = this.#network?.stop({ remove: options.purge })
    await Promise.all([stopped, this.#dialServer.drain(DRAIN_MS)])
    if (options.purge) {
      await this.agent.removeAll()
      await this.#kernel.leaveOrSay()
    } else {
      await this.agent.stop()
    }
    this.#drainBarrier.close()
    this.#imagePeers.detach()
  }
}

/**
 * Where published ports answer: on all addresses of the host, as Docker's do. A node that listens
 * on a loopback address is one of several on this host, and keeps to its own.
 */
function publishedOn(listenHost: string): string {
  const isLoopback = listenHost.startsWith('127.') || listenHost === '::1'
  return isLoopback ? listenHost : '0.0.0.0'
}

/** Whether this host has IPv6 at all: its loopback address is enough. */
function isIpv6Host(): boolean {
  return Object.values(networkInterfaces()).some((addresses) =>
    addresses?.some(({ family }) => family === 'IPv6'),
  )
}
