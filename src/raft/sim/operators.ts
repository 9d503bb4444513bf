/**
 * Does the operations of a schedule (`operations.ts`): what only sharp-eyed clients and operators
 * do. A client that follows the leader of the moment closely, and asks whoever else still thinks
 * that it leads, finds a lease that is longer than it may be.
 */
import { isSwarmError } from '../../base/errors.ts'
import type { Clients } from './clients.ts'
import type { Cluster } from './cluster.ts'
import type { Housekeeping } from './housekeeping.ts'
import { electionMs, type Plan } from './plan.ts'
import type { SimNode } from './sim-node.ts'
import { StagingWatch } from './staging-checks.ts'
import type { Verdict } from './verdict.ts'
import type { Operation } from './actions.ts'

/** Time that a server may take to be staged, in election timeouts. */
const STAGING_TIMEOUTS = 12
/** Looks of a chasing client in one election timeout. */
const LOOKS = 20
/** Time after which a planned stop must have ended, in election timeouts. */
const LEAVE_TIMEOUTS = 40
/** Restarts of the others at the cut, as part of an election timeout: all, or who hear it. */
const RESTART_PART = 0.2
const SHORT_RESTART_PART = 0.02

interface OperatorParts {
  readonly cluster: Cluster
  readonly clients: Clients
  readonly housekeeping: Housekeeping
  readonly verdict: Verdict
  readonly plan: Plan
}

type Of<T extends Operation['type']> = Operation & { readonly type: T }

/** Performs operations. */
export class Operators {
  readonly #parts: OperatorParts
  readonly #timeoutMs: number

  constructor(parts: OperatorParts) {
    this.#parts = parts
    this.#timeoutMs = electionMs(parts.plan)
  }

  perform(operation: Operation): void {
    const { cluster, clients, plan } = this.#parts
    switch (operation.type) {
      case 'leaseRead':
        this.#leaseRead(operation.who, operation.key)
        break
      case 'cutLeader':
        this.#cutLeader(operation)
        break
      case 'wallClock':
        cluster.find(operation.who)?.setWallClock(operation.leapMs)
        break
      case 'stage':
        this.#stage(operation)
        break
      case 'restore':
        if (cluster.leader !== undefined) clients.restore(cluster.leader, operation, plan.keys)
        break
      case 'reload':
        this.#reload(operation)
        break
      case 'leave':
        this.#leave(operation)
        break
      case 'boundedRead':
        this.#boundedRead(operation)
        break
      default:
        operation satisfies never
    }
  }

  #boundedRead({ who, key, boundMs, waitMs }: Of<'boundedRead'>): void {
    const node = this.#parts.cluster.find(who)
    if (node !== undefined) this.#parts.clients.boundedRead(node, { key, boundMs, waitMs })
  }

  /** Anybody who thinks that it leads is asked, old leaders first. */
  #leaseRead(who: number, key: number): void {
    const { cluster, clients } = this.#parts
    const leaders = cluster.all.filter(({ leads }) => leads)
    leaders.sort((a, b) => (a.raft?.term ?? 0) - (b.raft?.term ?? 0))
    const node = leaders[0] ?? cluster.some(who)
    clients.leaseRead(node, key)
  }

  /** A leader loses the others, but not its clients. */
  #cutLeader(cut: Of<'cutLeader'>): void {
    const { cluster } = this.#parts
    const { leader } = cluster
    if (leader === undefined) return
    leader.setWallClock(-cut.wallBackMs)
    this.#prelude(leader, cut)
    const life = leader.lifeName
    cluster.later(cut.delayMs, () => {
      if (!leader.isUp || leader.lifeName !== life) return
      const endMs = cluster.loop.nowMs + cut.forMs
      for (const { id } of cluster.present) {
        if (id === leader.id) continue
        cluster.network.clog(id, leader.id, endMs)
        if (cut.prelude !== 'transfer') cluster.network.clog(leader.id, id, endMs)
      }
      this.#chase({ leader, life, key: cut.key, endMs })
    })
  }

  #prelude(leader: SimNode, { prelude, who, key, forMs }: Of<'cutLeader'>): void {
    const { cluster } = this.#parts
    const others = cluster.present.filter((node) => node !== leader)
    switch (prelude) {
      case 'nothing':
        break
      case 'transfer': {
        const target = others[who % Math.max(1, others.length)]
        leader.raft?.transferLeadership(target?.id).catch(expectCode)
        break
      }
      case 'stall':
        leader.pause(forMs)
        // What waits in its sockets may come before its timers.
        cluster.later(forMs, () => this.#parts.clients.leaseRead(leader, key))
        break
      case 'reset':
        for (const { id } of others) cluster.network.reset(id, leader.id)
        break
      case 'restart':
        for (const node of others) this.#restart(node, RESTART_PART)
        break
      case 'restartHearing': {
        const hearing = others.filter(({ raft }) => raft?.leader === leader.id)
        for (const node of hearing) this.#restart(node, SHORT_RESTART_PART)
        break
      }
      default:
        prelude satisfies never
    }
  }

  #restart(node: SimNode, timeouts: number): void {
    const { cluster } = this.#parts
    cluster.crash(node)
    cluster.later(timeouts * this.#timeoutMs, () => {
      if (!node.isUp && !node.isGone) node.start()
    })
  }

  /** Writes wherever somebody else leads, and reads from the one that was cut off. */
  #chase(hunt: { leader: SimNode; life: string; key: number; endMs: number }): void {
    const { cluster, clients } = this.#parts
    const { leader, life, key, endMs } = hunt
    if (cluster.loop.nowMs > endMs + this.#timeoutMs || leader.lifeName !== life || !leader.leads) {
      return
    }
    const other = cluster.leader
    if (other !== undefined && other !== leader) {
      clients.leaseRead(leader, key)
      clients.write(other, {
        atMs: 0,
        type: 'write',
        who: 0,
        key,
        count: 1,
        swap: false,
        padding: 0,
      })
    }
    cluster.later(this.#timeoutMs / LOOKS, () => this.#chase(hunt))
  }

  /** A server, new or a learner, becomes a voter when it has caught up, and is perhaps removed. */
  #stage({ who, twice, removeMs }: Of<'stage'>): void {
    const { cluster, housekeeping, verdict } = this.#parts
    const leader = cluster.leader
    const raft = leader?.raft
    const server = housekeeping.candidate(who)
    if (leader === undefined || raft === undefined || server === undefined) return
    const nowMs = (): number => cluster.loop.nowMs
    const watch = new StagingWatch({ raft, server, verdict, nowMs, timeoutMs: this.#timeoutMs })
    const options = { staging: true, timeoutMs: STAGING_TIMEOUTS * this.#timeoutMs }
    const attempt = async (): Promise<boolean> => {
      try {
        await raft.addVoter(server.id, `at-${server.id}`, options)
        return true
      } catch (error) {
        expectCode(error)
        return false
      }
    }
    let open = true
    const stage = async (): Promise<void> => {
      const attempts = twice ? [attempt(), attempt()] : [attempt()]
      const promoted = (await Promise.all(attempts)).filter(Boolean)
      open = false
      watch.end(promoted.length)
    }
    housekeeping.track({ node: leader, life: leader.lifeName, server: server.id }, stage())
    const sample = (): void => {
      if (!open || leader.raft !== raft) return
      watch.sample()
      cluster.later(this.#parts.plan.tickMs, sample)
    }
    sample()
    if (removeMs > 0) {
      cluster.later(removeMs, () => {
        if (open && leader.raft === raft && leader.leads)
          raft.removeServer(server.id).catch(expectCode)
      })
    }
  }

  /** Other options while it runs: all of them, or none and an error. */
  #reload({ who, electionTicks, heartbeatTicks, snapshotThreshold }: Of<'reload'>): void {
    const { cluster, plan, verdict } = this.#parts
    const node = cluster.find(who)
    const { raft } = node ?? {}
    if (node === undefined || raft === undefined) return
    const before = raft.reloadableConfig
    const changes = { electionTicks, heartbeatTicks, snapshotThreshold }
    const wanted = { ...before, ...changes }
    let isTaken = true
    try {
      raft.reloadConfig(changes)
    } catch (error) {
      expectCode(error)
      isTaken = false
    }
    const expected = isTaken ? wanted : before
    const isSo = Object.entries(raft.reloadableConfig).every(([name, value]) => {
      return expected[name as keyof typeof expected] === value
    })
    const isLeaseKept = plan.operations?.leases !== true || electionTicks === before.electionTicks
    if (isSo && (isLeaseKept || !isTaken)) return
    verdict.fail('client-truth', `${node.id}: reloaded options are neither the old nor the new`)
  }

  /** A member stops as planned, a leader after it has handed over, and comes back later. */
  #leave({ who, forMs }: Of<'leave'>): void {
    const { cluster } = this.#parts
    const node = cluster.find(who)
    const raft = node?.raft
    if (node === undefined || raft === undefined) return
    const life = node.lifeName
    node.leaving = true
    const isSame = (): boolean => node.isUp && node.lifeName === life
    const leave = async (): Promise<void> => {
      await raft.shutdown({ transfer: true })
      if (isSame()) cluster.crash(node)
      cluster.later(forMs, () => {
        if (!node.isUp && !node.isGone) node.start()
      })
    }
    leave().catch(expectCode)
    this.#expectEnd(isSame, `${life} does not stop`)
  }

  #expectEnd(isUp: () => boolean, detail: string): void {
    const { cluster, verdict } = this.#parts
    cluster.later(LEAVE_TIMEOUTS * this.#timeoutMs, () => {
      if (isUp()) verdict.fail('lost-call', detail)
    })
  }
}

/** Operations fail with codes. @throws what is no operating error */
function expectCode(error: unknown): void {
  if (!isSwarmError(error)) throw error
}
