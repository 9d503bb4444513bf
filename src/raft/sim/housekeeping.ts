/**
 * The operators of a simulated group: they change its membership, replace nodes whose disk is gone
 * by new ones, and keep the rules that an operator must keep:
 *
 * - no disk is lost on purpose when a majority of voters would not be left;
 * - whose disk is lost is not promoted;
 * - while a voter's disk is lost, no other voter is taken out;
 * - a removed node's machine is thrown away only when every member knows durably that it is out.
 */
import { at } from '../../base/assert.ts'
import type { MembershipChange } from '../runtime/membership-changes.ts'
import type { Configuration, Server } from '../runtime/ports.ts'
import type { Raft } from '../runtime/raft.ts'
import type { Cluster } from './cluster.ts'
import type { Dice } from './dice.ts'
import type { Answer } from './register-machine.ts'
import type { SimNode } from './sim-node.ts'
import { expectSwarmError } from './expected-errors.ts'
import type { Change } from './actions.ts'

/** A change that somebody waits for. */
interface PendingChange {
  /** Who was asked, and in which life. */
  readonly node: SimNode
  readonly life: string
  /** The server that is staged: nobody else touches it. */
  readonly server?: string
}

/** Chance that a node which may be thrown away is. */
const RETIREMENT = 0.3

/** Membership from the operators' side. */
export class Housekeeping {
  readonly #cluster: Cluster
  readonly #dice: Dice
  /** Changes whose outcome is open. */
  readonly #pending = new Set<PendingChange>()
  /** Time in which what a process sent before its end may still arrive. */
  readonly #echoMs: number
  /** Until then a change may come out of the network whose maker is gone. */
  #quietFromMs = 0
  /** Changes that were put in force. */
  changes = 0

  constructor(cluster: Cluster, dice: Dice, echoMs: number) {
    this.#cluster = cluster
    this.#echoMs = echoMs
    this.#dice = dice
  }

  /** Looks after nodes that are lost or no longer needed, every so often. */
  round(): void {
    const leader = this.#cluster.leader?.raft
    if (leader === undefined) return
    const { configuration } = leader
    const lost = this.#lostMembers(configuration)[0]
    if (lost !== undefined) this.#propose(leader, [{ type: 'removeServer', id: lost.id }])
    this.#retire(configuration)
  }

  /** Makes one change, of one node if it can be. */
  change(kind: Change, who: number): void {
    const leader = this.#cluster.leader?.raft
    if (leader === undefined) return
    const changes = this.#changesFor(kind, who, leader.configuration)
    if (changes.length > 0) this.#propose(leader, changes)
  }

  /** A server that can be staged: a learner, or a node that is no member, old or new. */
  candidate(who: number): SimNode | undefined {
    const configuration = this.#cluster.leader?.raft?.configuration
    if (configuration === undefined) return undefined
    const learners = this.#learners(configuration).flatMap(({ id }) => {
      return this.#cluster.byId(id) ?? []
    })
    if (learners.length > 0 && who % 2 === 0) return at(learners, who % learners.length)
    return this.#spare(who, configuration.servers)
  }

  /** Until `outcome` settles a change is open. Rejections are not expected. */
  track(change: PendingChange, outcome: Promise<void>): void {
    this.#pending.add(change)
    void outcome.finally(() => this.#pending.delete(change))
  }

  /** The disk of `node` is lost for ever, if the group survives that. */
  maybeLose(node: SimNode): void {
    const configuration = this.#cluster.leader?.raft?.configuration
    if (configuration === undefined || configuration.joint || !this.#isQuiet()) return
    if (!this.#isSettled(configuration)) return
    const voters = configuration.servers.filter(({ suffrage }) => suffrage === 'voter')
    const left = voters.filter(({ id }) => id !== node.id && !this.#isGone(id))
    if (2 * left.length <= voters.length) return
    this.#cluster.crash(node)
    node.lost = true
  }

  /** Whether every member knows durably who the members are, and no change is on its way. */
  #isSettled({ index, servers }: Configuration): boolean {
    const isKnown = servers.every(({ id }) => {
      const node = this.#cluster.byId(id)
      return node?.isGone === true || (node?.disk.hardState.commit ?? 0) >= index
    })
    return isKnown && !hasChangesBehind(this.#cluster, index)
  }

  /** Whether no change can come into force that is not in a log already. */
  #isQuiet(): boolean {
    const { nowMs } = this.#cluster.loop
    for (const change of this.#pending) {
      if (change.node.isUp && change.node.lifeName === change.life) continue
      // It ended before it answered.
      this.#pending.delete(change)
      this.#quietFromMs = nowMs + this.#echoMs
    }
    return this.#pending.size === 0 && nowMs >= this.#quietFromMs
  }

  #retire(configuration: Configuration): void {
    if (!this.#isQuiet() || configuration.joint || !this.#isSettled(configuration)) return
    const members = new Set(configuration.servers.map(({ id }) => id))
    for (const node of this.#cluster.present) {
      if (members.has(node.id) || !this.#dice.chance(RETIREMENT)) continue
      this.#cluster.crash(node)
      node.retired = true
    }
  }

  #changesFor(kind: Change, who: number, { servers }: Configuration): readonly MembershipChange[] {
    const lost = this.#lostMembers({ servers })
    const voters = servers.filter(({ suffrage }) => suffrage === 'voter')
    const learners = this.#learners({ servers })
    const voter = voters[who % voters.length]
    const learner = learners[who % Math.max(1, learners.length)]
    const mayShrink = lost.length === 0 && voters.length > 1 && voter !== undefined
    switch (kind) {
      case 'learner':
      case 'voter':
        return this.#addition(kind, who, servers)
      case 'promote':
        return learner === undefined ? [] : [addVoter(learner)]
      case 'demote':
        return mayShrink ? [{ type: 'demoteVoter', id: voter.id }] : []
      case 'remove':
        return mayShrink ? [{ type: 'removeServer', id: voter.id }] : []
      case 'swap':
        if (!mayShrink || learner === undefined) return []
        return [
          { type: who % 2 === 0 ? 'demoteVoter' : 'removeServer', id: voter.id },
          addVoter(learner),
        ]
      default:
        return kind satisfies never
    }
  }

  /** A node that is no member, old or new, comes in. */
  #addition(
    kind: 'learner' | 'voter',
    who: number,
    servers: readonly Server[],
  ): readonly MembershipChange[] {
    const spare = this.#spare(who, servers)
    if (spare === undefined) return []
    const { id } = spare
    const type = kind === 'learner' ? 'addLearner' : 'addVoter'
    return [{ type, id, address: `at-${id}` }]
  }

  /** A node that is no member, and not on its way to become one. */
  #spare(who: number, servers: readonly Server[]): SimNode | undefined {
    const taken = new Set([...servers.map(({ id }) => id), ...this.#staged])
    const spares = this.#cluster.present.filter(({ id }) => !taken.has(id))
    if (spares.length > 0) return at(spares, who % spares.length)
    if (this.#cluster.isFull) return undefined
    const node = this.#cluster.create()
    node.start()
    return node
  }

  #learners({ servers }: Pick<Configuration, 'servers'>): readonly Server[] {
    const staged = this.#staged
    return servers.filter(({ id, suffrage }) => {
      return suffrage === 'learner' && !this.#isGone(id) && !staged.has(id)
    })
  }

  get #staged(): ReadonlySet<string> {
    return new Set([...this.#pending].flatMap(({ server }) => server ?? []))
  }

  #propose(leader: Raft<Answer>, changes: readonly MembershipChange[]): void {
    const node = this.#cluster.byId(leader.id)
    if (node === undefined) return
    const change = { node, life: node.lifeName }
    this.#pending.add(change)
    const made = async (): Promise<void> => {
      try {
        await leader.changeMembership(changes)
        this.changes += 1
      } catch (error) {
        expectSwarmError(error)
      } finally {
        this.#pending.delete(change)
      }
    }
    void made()
  }

  #lostMembers({ servers }: Pick<Configuration, 'servers'>): readonly Server[] {
    return servers.filter(({ id }) => this.#isGone(id))
  }

  #isGone(id: string): boolean {
    return this.#cluster.byId(id)?.isGone === true
  }
}

function addVoter({ id, address }: Server): MembershipChange {
  return { type: 'addVoter', id, address }
}

/** Whether any log holds a change of membership behind `index`, or entries that nobody can see. */
export function hasChangesBehind(cluster: Cluster, index: number): boolean {
  return cluster.present.some(({ disk, raft }) => {
    if ((raft?.lastIndex ?? 0) > disk.lastIndex) return true
    return disk.entries.some((entry) => entry.index > index && entry.type !== 'normal')
  })
}
