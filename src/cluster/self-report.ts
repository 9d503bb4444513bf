/**
 * Keeps this node's own record true: when its description or addresses differ from the replicated
 * ones (first start, upgrade, new address, other runtime), it proposes the new ones. Looks when the
 * record changes, when it is told that the host's addresses have, and now and then all the same.
 * Writes nothing while they are equal: an idle cluster stays idle.
 */
import { isDeepStrictEqual } from 'node:util'
import { delay } from '../base/clock.ts'
import type { Clock, Timer } from '../base/clock.ts'
import { SwarmError, errorText, isSwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { NodeDescription } from '../store/objects.ts'
import type { Proposer } from '../store/transaction.ts'
import type { StoreView } from '../store/view.ts'
import { LatestTask } from './latest-task.ts'

/** Pause before a refused or unanswered report is tried again. */
const RETRY_MS = 1_000

/** Milliseconds between two looks at the host. */
const LOOK_MS = 60_000

/** Calls `told` after changes of the host, until the function that it gives is called. */
export type OnHostChange = (told: () => void) => () => void

interface Components {
  readonly store: StoreView
  readonly proposer: Proposer
  readonly describe: () => NodeDescription
  readonly onHostChange?: OnHostChange
  readonly clock: Clock
  readonly log: Logger
}

interface Identity {
  readonly nodeId: string
  readonly addresses: readonly string[]
  readonly advertiseHost: string
}

/** Follows this node's own record. */
export class SelfReport {
  readonly #components: Components
  readonly #identity: Identity
  readonly #undo: readonly (() => void)[]
  readonly #stop = new AbortController()
  readonly #task: LatestTask<'report'>
  #timer: Timer | undefined

  constructor(components: Components, identity: Identity) {
    this.#components = components
    this.#identity = identity
    this.#task = new LatestTask<'report'>(
      () => this.#report(),
      (error) => {
        if (this.#stop.signal.aborted) return
        components.log.error({ err: errorText(error) }, 'own description was not reported')
      },
    )
    const undoCommit = components.store.onCommit((commit) => {
      const own =
        commit.type === 'restored' || commit.changes.some((one) => one.id === identity.nodeId)
      if (own) this.#task.want('report')
    })
    const undoHost = components.onHostChange?.(() => this.#task.want('report'))
    this.#undo = undoHost === undefined ? [undoCommit] : [undoCommit, undoHost]
    this.#task.want('report')
    this.#lookLater()
  }

  async stop(): Promise<void> {
    for (const undo of this.#undo) undo()
    this.#timer?.cancel()
    this.#stop.abort(new SwarmError('SHUTTING_DOWN', 'self report: node stops'))
    await this.#task.settled()
  }

  #lookLater(): void {
    this.#timer = this.#components.clock.after(LOOK_MS, () => {
      this.#task.want('report')
      this.#lookLater()
    })
  }

  async #report(): Promise<void> {
    const { proposer, clock, log } = this.#components
    while (!this.#stop.signal.aborted) {
      const action = this.#difference()
      if (action === undefined) return
      try {
        await proposer.propose([action], { signal: this.#stop.signal })
      } catch (error) {
        if (!isSwarmError(error)) throw error
        log.debug({ err: errorText(error) }, 'own description waits for a leader')
        await delay(clock, RETRY_MS, this.#stop.signal)
      }
    }
  }

  #difference() {
    const { nodeId, addresses, advertiseHost } = this.#identity
    const node = this.#components.store.get('nodes', nodeId)
    if (node === undefined) return undefined
    const description = this.#components.describe()
    const known = {
      description: node.description,
      addresses: node.addresses,
      advertiseHost: node.advertiseHost,
    }
    if (isDeepStrictEqual(known, { description, addresses, advertiseHost })) return undefined
    return { type: 'observeNode', id: nodeId, description, addresses, advertiseHost } as const
  }
}
