/**
 * Keeps the mesh's members equal to the replicated nodes, and the membership file's hints with them, so
 * that a restarted node knows whom to call before it has read its replica.
 */
import { errorText } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Member, Mesh } from '../mesh/ports.ts'
import type { Commit, StoreView } from '../store/view.ts'
import { membersOf } from './join-authority.ts'
import { LatestTask } from './latest-task.ts'
import { writeMembership } from './membership-file.ts'
import type { MembershipRecord } from './membership-file.ts'

interface Components {
  readonly store: StoreView
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

  constructor(components: Components, options: Options) {
    this.#components = components
    this.#options = options
    this.#written = JSON.stringify(options.record.members)
    this.#file = new LatestTask(
      (members: readonly Member[]) => this.#write(members),
      (error) => components.log.error({ err: errorText(error) }, 'membership file was not written'),
    )
    this.#undo = components.store.onCommit((commit) => this.#onCommit(commit))
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

  /** An empty replica knows nothing yet: the hints stay in force. */
  #follow(): void {
    const members = membersOf(this.#components.store)
    if (members.length === 0) return
    this.#components.mesh.setMembers(members)
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
