/** Does what a schedule says: calls of clients and faults, at the nodes there are. */
import { at } from '../../base/assert.ts'
import type { Clients } from './clients.ts'
import type { Cluster } from './cluster.ts'
import type { Housekeeping } from './housekeeping.ts'
import { isOperation } from './operations.ts'
import type { Operators } from './operators.ts'
import { partition } from './partitions.ts'
import type { SimNode } from './sim-node.ts'
import type { Verdict } from './verdict.ts'
import { expectSwarmError } from './expected-errors.ts'
import type { Action, Who } from './actions.ts'

interface NemesisParts {
  readonly cluster: Cluster
  readonly clients: Clients
  readonly housekeeping: Housekeeping
  readonly operators: Operators
  readonly verdict: Verdict
}

/** Performs actions. */
export class Nemesis {
  readonly #parts: NemesisParts
  #partitions = 0
  #storms = 0
  /** All faults have ended: what they would still undo is not theirs any more. */
  #isOver = false

  constructor(parts: NemesisParts) {
    this.#parts = parts
  }

  /** Peace begins. */
  end(): void {
    this.#isOver = true
    this.#parts.cluster.network.weather(undefined)
  }

  perform(action: Action): void {
    const { cluster, clients, housekeeping, operators, verdict } = this.#parts
    verdict.note(action.type.length)
    if (isOperation(action)) {
      operators.perform(action)
      return
    }
    const { type } = action
    if (type === 'write') this.#at(action.who, (node) => clients.write(node, action))
    else if (type === 'read') this.#at(action.who, (node) => clients.read(node, action.key))
    else if (type === 'member') housekeeping.change(action.change, action.who)
    else if (type === 'loseDisk') this.#at(action.who, (node) => housekeeping.maybeLose(node))
    else if (type === 'blackout') {
      for (const node of cluster.present) this.#crash(node, action.forMs)
    } else if (
      type === 'partition' ||
      type === 'clog' ||
      type === 'resetLink' ||
      type === 'storm'
    ) {
      this.#performOnLinks(action)
    } else this.#performAt(action)
  }

  /** The faults of the network. */
  #performOnLinks(action: LinkFault): void {
    const { network } = this.#parts.cluster
    if (action.type === 'partition') this.#partition(action)
    else if (action.type === 'clog') this.#clog(action)
    else if (action.type === 'storm') this.#storm(action)
    else this.#between(action, (from, to) => network.reset(from.id, to.id))
  }

  /** The faults of one node. */
  #performAt(action: OneNodeFault): void {
    const { cluster } = this.#parts
    this.#at(action.who, (node) => {
      switch (action.type) {
        case 'crash':
          this.#crash(node, action.forMs)
          break
        case 'crashAtWrite':
          node.disk.trap = {
            kind: action.write,
            spring: () => cluster.later(0, () => this.#crash(node, action.forMs)),
          }
          break
        case 'failWrite':
          node.disk.failNext = true
          break
        case 'pause':
          node.pause(action.forMs)
          break
        case 'slowDisk':
          node.disk.slowMeanMs = action.meanMs
          cluster.later(action.forMs, () => {
            node.disk.slowMeanMs = 0
          })
          break
        case 'clock':
          node.setClock(action.rate, action.leapMs)
          break
        case 'transfer':
          this.#transfer(node)
          break
        case 'snapshot':
          node.raft?.snapshot().catch(expectSwarmError)
          break
        default:
          action satisfies never
      }
    })
  }

  #at(who: Who, act: (node: SimNode) => void): void {
    const node = this.#parts.cluster.find(who)
    if (node !== undefined) act(node)
  }

  #between(
    { from, to }: { readonly from: Who; readonly to: Who },
    act: (from: SimNode, to: SimNode) => void,
  ): void {
    this.#at(from, (a) => {
      this.#at(to, (b) => {
        if (a !== b) act(a, b)
      })
    })
  }

  #crash(node: SimNode, forMs: number): void {
    this.#parts.cluster.crash(node)
    this.#parts.cluster.later(forMs, () => {
      if (!this.#isOver && !node.isUp && !node.isGone) node.start()
    })
  }

  #clog(action: Action & { readonly type: 'clog' }): void {
    const { cluster } = this.#parts
    this.#between(action, (from, to) => {
      cluster.network.clog(from.id, to.id, cluster.loop.nowMs + action.forMs)
    })
  }

  #partition(action: Action & { readonly type: 'partition' }): void {
    const { cluster } = this.#parts
    const nodes = cluster.present
    if (nodes.length === 0) return
    const middle = cluster.find(action.who) ?? at(nodes, 0)
    const center = nodes.indexOf(middle)
    const blocks = partition({ ...action, center, nodes: nodes.length })
    const place = new Map(nodes.map(({ id }, position) => [id, position]))
    cluster.network.block((from, to) => {
      const [a, b] = [place.get(from), place.get(to)]
      return a !== undefined && b !== undefined && blocks(a, b)
    })
    this.#partitions += 1
    const mine = this.#partitions
    cluster.later(action.forMs, () => {
      if (!this.#isOver && this.#partitions === mine) cluster.network.block(() => false)
    })
  }

  #storm(action: Action & { readonly type: 'storm' }): void {
    const { cluster } = this.#parts
    const { machines, loss, blackHole } = action
    const places = new Map(cluster.all.map(({ id }, place) => [id, place]))
    const hits = (to: string): boolean => ((machines >> (places.get(to) ?? 0)) & 1) === 1
    cluster.network.weather({ hits, loss, blackHole })
    this.#storms += 1
    const mine = this.#storms
    cluster.later(action.forMs, () => {
      if (this.#storms === mine) cluster.network.weather(undefined)
    })
  }

  #transfer(target: SimNode): void {
    const leader = this.#parts.cluster.leader?.raft
    leader?.transferLeadership(target.id).catch(expectSwarmError)
  }
}

type LinkFault = Extract<
  Action,
  { readonly type: 'partition' | 'storm' } | { readonly type: 'clog' | 'resetLink' }
>
type OneNodeFault = Extract<
  Action,
  {
    readonly type:
      | 'crash'
      | 'crashAtWrite'
      | 'failWrite'
      | 'pause'
      | 'slowDisk'
      | 'clock'
      | 'transfer'
      | 'snapshot'
  }
>
