/**
 * Keeps the mesh's members equal to the replicated nodes, and the membership file's hints with
 * them, so that a restarted node knows whom to call before it has read its replica.
 */
import { errorText } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Member, Mesh } from '../mesh/ports.ts'
import type { Commit, StoreView } from '../store/view.ts'
import { membersOf } from './join-authority.ts'
import { LatestTask } from './latest-task.ts'
import { writeMembership } from './membership-file.ts'
import type { SwarmRaft } from './raft-face.ts'
import type { MembershipRecord } from './membership-file.ts'

interface Components {
  readonly store: StoreView
  readonly raft: SwarmRaft
  readonly mesh: Mesh
  readonly log: Logger
}

interface Options {
  readonly record: MembershipRecord
  readonly directory: string
}

/** Follows the nodes table. */
export class MemberLinks {
  readonly #components: Components
  readonly #options: Options
  readonly #undo: () => void
  readonly #file: LatestTask<readonly Member[]>
  #written: string
  #settled = false

  constructor(components: Components, options: Options) {
    this.#components = components
    this.#options = options
    this.#written = JSON.stringify(options.record.members)
    this.#file = new LatestTask(
      (members: readonly Member[]) => this.#write(members),
      (error) => components.log.error({ err: errorText(error) }, 'membership file was not written'),
    )
    const undo = [
      components.store.onCommit((commit) => this.#onCommit(commit)),
      components.raft.onLeadership(() => this.#follow()),
    ]
    this.#undo = () => undo.forEach((one) => one())
    this.#follow()
  }

  async stop(): Promise<void> {
    this.#undo()
    await this.#file.settled()
  }

  #onCommit(commit: Commit): void {
    if (commit.type === 'restored' || commit.changes.some((one) => one.table === 'nodes')) {
      this.#follow()
    }
  }

  /**
   * A replica that still reads its own log shows who was a member once: until this node has heard a
   * leader and applied what it knows to be committed, the hints of the last run stay in force too.
   */
  #follow(): void {
    const { store, raft, mesh } = this.#components
    const members = membersOf(store)
    this.#settled ||= raft.leader !== undefined && raft.appliedIndex >= raft.commitIndex
    if (!this.#settled) {
      const known = new Set(members.map((member) => member.nodeId))
      const hints = this.#options.record.members.filter((member) => !known.has(member.nodeId))
      mesh.setMembers([...members, ...hints])
      return
    }
    if (members.length === 0) return
    mesh.setMembers(members)
    this.#file.want(members)
  }

  /** Addresses change rarely; observed states, which change often, are not in the file. */
  async #write(members: readonly Member[]): Promise<void> {
    const text = JSON.stringify(members)
    if (text === this.#written) return
    await writeMembership(this.#options.directory, { ...this.#options.record, members })
    this.#written = text
  }
}
