/** What must hold for the state of a node after each event that touched it. */
import type { ConfState, Index, PeerId, Term } from '../core/entry.ts'
import type { Role } from '../core/ready.ts'
import type { RaftCore } from '../core/raft-core.ts'
import type { CoreStatus } from '../core/status.ts'
import { INFLIGHT_MESSAGES_MAX } from '../runtime/options.ts'
import { quorumHas, type GlobalLog } from './global-log.ts'
import type { SimDisk } from './sim-disk.ts'
import type { Verdict } from './verdict.ts'

/** What a life of a node looked like after the event before. */
export interface NodeView {
  readonly role: Role
  readonly term: Term
  readonly commit: Index
  readonly conf: ConfState
  readonly lastIndex: Index
  readonly appliedIndex: Index
  readonly membership: object
}

/** A node to look at. */
export interface NodeGlance {
  readonly life: string
  readonly disk: SimDisk
  readonly core: RaftCore
  /** Another one when it changes. */
  readonly membership: object
  /** The state machine stands here. */
  readonly appliedIndex: Index
  readonly before: NodeView | undefined
}

/** A node as it is now. */
interface NodeNow extends NodeGlance {
  readonly status: CoreStatus
}

/** The disk of a member, or `lost` when it is gone. */
export type DiskOf = (peer: PeerId) => SimDisk | 'lost' | undefined

/** Invariants of nodes. */
export class NodeChecks {
  readonly #verdict: Verdict
  readonly #log: GlobalLog
  readonly #diskOf: DiskOf

  constructor(verdict: Verdict, log: GlobalLog, diskOf: DiskOf) {
    this.#verdict = verdict
    this.#log = log
    this.#diskOf = diskOf
  }

  /** Checks a node; returns what to compare with next time. */
  observe(glance: NodeGlance): NodeView {
    const { core, before, life } = glance
    if (before !== undefined && isAsBefore(glance, before)) {
      if (before.role === 'leader') this.#checkWindows(life, core.progress())
      return before
    }
    return this.#examine({ ...glance, status: core.status() })
  }

  #examine(now: NodeNow): NodeView {
    const { status, before, life, appliedIndex, membership } = now
    const { hard, role, conf } = status
    const isNews = before === undefined || before.commit !== hard.commit
    if (isNews) this.#verdict.note(hard.commit)
    this.#checkOrder(now)
    if (hard.commit > this.#log.last) this.#checkCommit(now)
    const campaigns = role === 'preCandidate' || role === 'candidate'
    if (campaigns && before?.role !== role) this.#checkConfiguration(now)
    if (role === 'leader') {
      this.#log.leads(hard.term, life)
      this.#checkWindows(life, status.progress)
      if (before?.role !== 'leader' || before.term !== hard.term) this.#checkNewLeader(now)
    }
    const { term, commit } = hard
    const { lastIndex } = status
    return { role, term, commit, conf, lastIndex, appliedIndex, membership }
  }

  #checkOrder({ life, status, appliedIndex, disk, before }: NodeNow): void {
    const { hard, lastIndex, applied } = status
    const ordered =
      applied <= appliedIndex && appliedIndex <= hard.commit && hard.commit <= lastIndex
    if (!ordered) {
      const indexes = `applied ${applied}/${appliedIndex}, commit ${hard.commit}, last ${lastIndex}`
      this.#verdict.fail('index-order', `${life}: ${indexes}`)
    }
    if (before !== undefined && (hard.commit < before.commit || hard.term < before.term)) {
      this.#verdict.fail('index-order', `${life}: its commit index or term went back`)
    }
    if (disk.hardState.term > hard.term) {
      this.#verdict.fail('vote-durability', `${life}: the term on disk is ahead of the core`)
    }
  }

  /** Something is committed for the first time: by a leader, by counting entries of its term. */
  #checkCommit({ life, status, before }: NodeNow): void {
    const { commit } = status.hard
    if (before?.role !== 'leader') {
      const detail = `${life} takes entry ${commit} for committed, only ${this.#log.last} is`
      this.#verdict.fail('commit-durability', detail)
      return
    }
    const holds = (peer: PeerId): boolean => {
      const disk = this.#diskOf(peer)
      return disk === 'lost' || disk?.holds(commit, before.term) === true
    }
    const isSafe = quorumHas(before.conf, holds) || quorumHas(status.conf, holds)
    if (!isSafe) {
      const detail = `${life} commits entry ${commit} in term ${before.term}; no quorum holds it`
      this.#verdict.fail('commit-durability', detail)
      return
    }
    const { voters, votersOutgoing } = before.conf
    for (const peer of [...voters, ...votersOutgoing, ...status.conf.voters]) {
      const disk = this.#diskOf(peer)
      if (disk === undefined || disk === 'lost' || disk.term(commit) !== before.term) continue
      this.#log.commit(disk, commit, before.term)
      if (this.#log.last >= commit) return
    }
    this.#verdict.fail('commit-durability', `${life}: nobody holds entry ${commit} any more`)
  }

  /** Who campaigns has put in force every change that it knows to be committed (Ongaro §4.1). */
  #checkConfiguration({ life, status }: NodeNow): void {
    const { applied, hard } = status
    for (let index = applied + 1; index <= hard.commit; index += 1) {
      if (this.#log.committed(index)?.isChange !== true) continue
      const detail = `${life} campaigns though it knows the change at ${index} to be committed`
      this.#verdict.fail('configuration', detail)
    }
  }

  #checkNewLeader({ life, status }: NodeNow): void {
    const { hard, lastIndex, conf, id } = status
    const voted = (peer: PeerId): boolean => {
      const disk = this.#diskOf(peer)
      if (disk === 'lost' || disk === undefined) return disk === 'lost'
      const { term, vote } = disk.hardState
      return term > hard.term || (term === hard.term && vote === id)
    }
    if (!quorumHas(conf, voted)) {
      this.#verdict.fail('election-safety', `${life} leads term ${hard.term} without a quorum`)
    }
    const needed = this.#log.lastBefore(hard.term)
    if (lastIndex >= needed) return
    const detail = `${life} leads term ${hard.term} with ${lastIndex} entries, ${needed}`
    this.#verdict.fail('leader-completeness', `${detail} are committed`)
  }

  #checkWindows(life: string, members: CoreStatus['progress']): void {
    for (const [peer, progress] of members) {
      if (progress.inflight > INFLIGHT_MESSAGES_MAX || progress.match >= progress.next) {
        const detail = `${progress.inflight} in flight, match ${progress.match}`
        this.#verdict.fail('bounds', `${life}: ${peer} has ${detail}, next ${progress.next}`)
      }
    }
  }
}

/** Whether nothing has changed but perhaps what a leader knows of others. */
function isAsBefore(now: NodeGlance, before: NodeView): boolean {
  const { core, appliedIndex, membership, disk } = now
  return (
    core.commitIndex === before.commit &&
    core.lastIndex === before.lastIndex &&
    appliedIndex === before.appliedIndex &&
    core.term === before.term &&
    core.role === before.role &&
    membership === before.membership &&
    disk.hardState.term <= before.term
  )
}
