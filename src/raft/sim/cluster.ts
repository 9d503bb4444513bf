/** All nodes of a simulation, present and gone, and who leads them. */
import { AssertionError } from '../../base/assert.ts'
import type { PeerId } from '../core/entry.ts'
import type { Server } from '../runtime/ports.ts'
import { Dice } from './dice.ts'
import type { EventLoop } from './event-loop.ts'
import { SimDisk, type DiskManners, type DiskWatch } from './sim-disk.ts'
import type { SimNetwork } from './sim-network.ts'
import { SimNode, type NodeWorld } from './sim-node.ts'
import type { Who } from './actions.ts'

/** Nodes that a run may come to have, gone ones included. */
const NODES_MAX = 14

interface ClusterParts {
  readonly world: NodeWorld
  readonly diskManners: DiskManners
  readonly diskWatch: DiskWatch
  /** A process has ended. */
  readonly onCrash: (life: string) => void
}

/** The nodes. */
export class Cluster {
  readonly #parts: ClusterParts
  readonly #nodes: SimNode[] = []
  readonly #byNumber = new Map<PeerId, SimNode>()
  readonly #byId = new Map<string, SimNode>()

  constructor(parts: ClusterParts) {
    this.#parts = parts
  }

  get loop(): EventLoop {
    return this.#parts.world.loop
  }

  get network(): SimNetwork {
    return this.#parts.world.network
  }

  get all(): readonly SimNode[] {
    return this.#nodes
  }

  /** Nodes that are not gone for ever. */
  get present(): readonly SimNode[] {
    return this.#nodes.filter(({ isGone }) => !isGone)
  }

  /** The leader of the highest term. */
  get leader(): SimNode | undefined {
    let leader: SimNode | undefined
    for (const node of this.#nodes) {
      if (!node.leads) continue
      if ((leader?.raft?.term ?? -1) < (node.raft?.term ?? 0)) leader = node
    }
    return leader
  }

  get isFull(): boolean {
    return this.#nodes.length >= NODES_MAX
  }

  find(who: Who): SimNode | undefined {
    if (who === 'leader') return this.leader
    const { present } = this
    return present[who % present.length]
  }

  byNumber(number: PeerId): SimNode | undefined {
    return this.#byNumber.get(number)
  }

  byId(id: string): SimNode | undefined {
    return this.#byId.get(id)
  }

  /** A new node with an empty disk, under an id that nobody had. */
  create(): SimNode {
    const id = `n${this.#nodes.length + 1}`
    const { world, diskManners, diskWatch } = this.#parts
    const disk = new SimDisk(id, {
      loop: world.loop,
      dice: new Dice(world.seed, `disk ${id}`),
      manners: diskManners,
      watch: diskWatch,
    })
    const node = new SimNode(id, disk, world)
    this.#nodes.push(node)
    this.#byNumber.set(node.number, node)
    this.#byId.set(id, node)
    return node
  }

  /** Makes the first members and starts them. */
  async bootstrap(voters: number, learners: number): Promise<void> {
    const nodes = Array.from({ length: voters + learners }, () => this.create())
    const servers = nodes.map(({ id }, position): Server => {
      return { id, address: `at-${id}`, suffrage: position < voters ? 'voter' : 'learner' }
    })
    await Promise.all(nodes.map((node) => node.bootstrap(servers)))
    for (const node of nodes) node.start()
  }

  /** The process of `node` ends. */
  crash(node: SimNode): void {
    if (!node.isUp) return
    const life = node.lifeName
    node.crash()
    this.#parts.onCrash(life)
  }

  /** Does `run` later, from outside. */
  later(delayMs: number, run: () => void): void {
    this.loop.after(delayMs, 'script', { run })
  }

  /** The disk of a member as the invariants count it. */
  diskOf(peer: PeerId): SimDisk | 'lost' | undefined {
    const node = this.#byNumber.get(peer)
    return node?.isGone === true ? 'lost' : node?.disk
  }

  /** @throws AssertionError when there is none */
  some(who: number): SimNode {
    const node = this.find(who)
    if (node === undefined) throw new AssertionError('there is no node')
    return node
  }
}
