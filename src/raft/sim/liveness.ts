/**
 * The second phase of a run: all faults end, but for some nodes that stay down or cut off for ever.
 * What is left holds a majority of every configuration that can still matter, so it must elect a
 * leader, take writes and reads, and bring all its members up to date (reference/raft.md §4.1).
 */
import { errorText } from '../../base/errors.ts'
import type { ConfState, Index, Term } from '../core/entry.ts'
import type { Clients } from './clients.ts'
import type { Cluster } from './cluster.ts'
import type { Dice } from './dice.ts'
import { quorumHas } from './global-log.ts'
import { hasChangesBehind } from './housekeeping.ts'
import { encodeCommand } from './register-machine.ts'
import type { SimNode } from './sim-node.ts'
import { expectSwarmError } from './expected-errors.ts'

/** Time between two probes, in election timeouts. */
const PROBE_TIMEOUTS = 0.5
/** Chance that a node which is not needed stays broken. */
const VICTIM = 0.5
/** Chance that a victim is down, not only cut off. */
const DOWN = 0.4
/** Chance that the victims reach one of the others. */
const BRIDGE = 0.5
/** What operators do in peace. */
const DRILLS = ['nothing', 'transfer', 'remove', 'demote'] as const
/** The register of the probes, which no client uses. */
const PROBE_KEY = 0

interface LivenessParts {
  readonly cluster: Cluster
  readonly clients: Clients
  readonly dice: Dice
  readonly timeoutMs: number
  readonly newId: () => number
}

/** Whether the group goes on. */
export class Liveness {
  readonly #parts: LivenessParts
  readonly #victims = new Set<SimNode>()
  /** A needed node that the victims reach, too (reference/raft.md bug 3). */
  #bridge: string | undefined
  /** Highest term of a victim when it was cut off. */
  #victimTerm: Term = 0
  /** Who led when the victims came back. */
  #reunion: { readonly leader: SimNode; readonly term: Term } | undefined
  #drilling = false
  #drillError = ''
  #written: Index = 0
  #readable = false
  #probing = false

  constructor(parts: LivenessParts) {
    this.#parts = parts
  }

  /** Ends all faults. `confs` are all configurations that were ever in force, by index. */
  begin(confs: ReadonlyMap<Index, ConfState>): void {
    const { cluster } = this.#parts
    this.#chooseVictims(confs)
    cluster.network.manners = {
      minDelayMs: 0.1,
      meanDelayMs: 0.2,
      loss: 0,
      duplication: 0,
      reorders: false,
      capacity: 10_000,
      closeNotice: 0,
    }
    cluster.network.unclog()
    const cut = new Set([...this.#victims].map(({ id }) => id))
    cluster.network.block((from, to) => {
      return cut.has(from) !== cut.has(to) && from !== this.#bridge && to !== this.#bridge
    })
    for (const node of cluster.present) this.#heal(node)
    this.#probe()
  }

  /** Whether all that was to be shown has been shown. */
  get isProven(): boolean {
    const { cluster, clients } = this.#parts
    if (this.#drilling || this.#written === 0 || !this.#readable || clients.waiting.length > 0)
      return false
    const configuration = cluster.leader?.raft?.configuration
    if (configuration === undefined || configuration.joint) return false
    return configuration.servers.every(({ id }) => {
      const node = cluster.byId(id)
      if (node === undefined || node.isGone || this.#victims.has(node)) return true
      return (node.raft?.appliedIndex ?? 0) >= this.#written
    })
  }

  /** The victims come back; from now on they count like all others. */
  reunite(): void {
    const { cluster } = this.#parts
    const { leader } = cluster
    const term = leader?.raft?.term
    // A hand-over that it began in this term may still arrive late, and is rightly obeyed.
    const mayHandOver = leader?.driver?.core.leaseRounds === undefined || leader.leaving
    if (leader !== undefined && term !== undefined && !mayHandOver) {
      this.#reunion = { leader, term }
    }
    this.#victims.clear()
    cluster.network.block(() => false)
    for (const node of cluster.present) if (!node.isUp) node.start()
  }

  /**
   * Whether the leader is still the one that led when the victims came back. With pre-votes those
   * cannot have raised their terms meanwhile (reference/raft.md bug 1).
   */
  get isStable(): boolean {
    if (this.#reunion === undefined || this.#victimTerm > this.#reunion.term) return true
    const { leader, term } = this.#reunion
    return leader.leads && leader.raft?.term === term
  }

  /**
   * Operators do one thing in peace, which must succeed: hand over, or take the leader out. Then
   * all is to be shown again.
   */
  drill(): void {
    const { cluster, dice } = this.#parts
    const leader = cluster.leader?.raft
    const others = leader?.configuration.servers.filter(({ id, suffrage }) => {
      return id !== leader.id && suffrage === 'voter' && !isGone(cluster, id)
    })
    const kind = dice.pick(DRILLS)
    if (leader === undefined || others === undefined || others.length === 0) return
    // A leader is not taken out while another voter is lost for ever.
    const isWhole = leader.configuration.servers.every(({ id }) => !isGone(cluster, id))
    if (kind === 'nothing' || (kind !== 'transfer' && !isWhole)) return
    this.#drilling = true
    const act = async (): Promise<void> => {
      if (kind === 'transfer') await leader.transferLeadership(dice.pick(others).id)
      else if (kind === 'remove') await leader.removeServer(leader.id)
      else await leader.demoteVoter(leader.id)
      this.#drilling = false
      this.#written = 0
      this.#readable = false
    }
    act().catch((error: unknown) => {
      this.#drillError = `${kind}: ${errorText(expectSwarmError(error))}`
    })
  }

  /** All is to be shown again. */
  again(): void {
    this.#drilling = false
    this.#written = 0
    this.#readable = false
  }

  /** Where everything stands, for people. */
  describe(): string {
    const { cluster, clients } = this.#parts
    const nodes = cluster.present.map((node) => {
      const { raft, id, disk } = node
      const state = raft === undefined ? 'down' : `${raft.role} ${raft.term}`
      const indexes = `${raft?.appliedIndex ?? 0}/${raft?.commitIndex ?? 0}/${disk.lastIndex}`
      const members = raft?.configuration.servers.map((server) => server.id).join('+') ?? ''
      return `${id}${this.#victims.has(node) ? ' (cut)' : ''}: ${state} ${indexes} [${members}]`
    })
    const waiting = `${this.#drillError} ${clients.waiting.length} calls wait`
    return `written ${this.#written}, read ${this.#readable}, ${waiting}; ${nodes.join('; ')}`
  }

  #heal(node: SimNode): void {
    const { cluster } = this.#parts
    node.disk.calm()
    node.setClock(1, 0)
    if (!this.#victims.has(node)) {
      if (!node.isUp) node.start()
      return
    }
    const term = Math.max(node.disk.hardState.term, node.raft?.term ?? 0)
    this.#victimTerm = Math.max(this.#victimTerm, term)
    if (this.#parts.dice.chance(DOWN)) cluster.crash(node)
  }

  /** Writes and reads until both worked once. */
  #probe(): void {
    const { cluster, timeoutMs } = this.#parts
    cluster.later(PROBE_TIMEOUTS * timeoutMs, () => this.#probe())
    const { leader } = cluster
    if (leader?.raft === undefined || this.#probing) return
    this.#probing = true
    this.#check(leader).catch(expectSwarmError)
    cluster.later(4 * timeoutMs, () => {
      this.#probing = false
    })
  }

  async #check({ raft }: SimNode): Promise<void> {
    if (raft === undefined) return
    try {
      const command = { id: this.#parts.newId(), key: PROBE_KEY, expected: undefined, padding: 0 }
      const { index } = await raft.apply(encodeCommand(command))
      this.#written = index
      await raft.waitApplied(await raft.readIndex())
      this.#readable = true
    } finally {
      this.#probing = false
    }
  }

  #chooseVictims(confs: ReadonlyMap<Index, ConfState>): void {
    const { cluster, dice } = this.#parts
    const newest = Math.max(...confs.keys())
    if (hasChangesBehind(cluster, newest)) return
    const needed = this.#confsThatMatter(confs)
    for (const node of cluster.present) {
      if (!dice.chance(VICTIM)) continue
      this.#victims.add(node)
      const remains = (peer: number): boolean => {
        const member = cluster.byNumber(peer)
        return member !== undefined && !member.isGone && !this.#victims.has(member)
      }
      if (!needed.every((conf) => quorumHas(conf, remains))) this.#victims.delete(node)
    }
    this.#chooseBridge(needed)
  }

  /** The victims and the bridge must not be a quorum: then they could lead, rightly. */
  #chooseBridge(needed: readonly ConfState[]): void {
    const { cluster, dice } = this.#parts
    const core = cluster.present.filter((node) => !this.#victims.has(node))
    if (core.length === 0 || !dice.chance(BRIDGE)) return
    const bridge = dice.pick(core)
    const reaches = (peer: number): boolean => {
      const node = cluster.byNumber(peer)
      return node !== undefined && (node === bridge || this.#victims.has(node))
    }
    if (!needed.some((conf) => quorumHas(conf, reaches))) this.#bridge = bridge.id
  }

  /** Configurations that some member may still be in. */
  #confsThatMatter(confs: ReadonlyMap<Index, ConfState>): readonly ConfState[] {
    const commits = this.#parts.cluster.present.map(({ disk }) => disk.hardState.commit)
    const oldest = Math.min(...commits)
    const indexes = [...confs.keys()].toSorted((a, b) => a - b)
    const first = indexes.findLast((index) => index <= oldest) ?? 0
    return indexes.filter((index) => index >= first).flatMap((index) => confs.get(index) ?? [])
  }
}

function isGone(cluster: Cluster, id: string): boolean {
  return cluster.byId(id)?.isGone !== false
}
