/**
 * What must hold for one server that is being staged: it becomes a voter only when it has what the
 * leader had an election timeout before, once, and not when it was removed meanwhile. Looked at
 * from outside: at the leader's log and configuration and at the server's disk.
 */
import type { Index } from '../core/entry.ts'
import type { Configuration } from '../runtime/ports.ts'
import type { Raft } from '../runtime/raft.ts'
import type { Answer } from './register-machine.ts'
import type { SimNode } from './sim-node.ts'
import type { Verdict } from './verdict.ts'

/** Election timeouts that a round may have taken, by any clock, and the answer of its end. */
const ROUND_TIMEOUTS = 2

interface WatchParts {
  readonly raft: Raft<Answer>
  readonly server: SimNode
  readonly verdict: Verdict
  readonly nowMs: () => number
  readonly timeoutMs: number
}

/** Watches one leader while it stages one server. */
export class StagingWatch {
  readonly #parts: WatchParts
  readonly #undo: () => void
  /** How long the leader's log was, in the course of time. */
  readonly #samples: { readonly atMs: number; readonly lastIndex: Index }[] = []
  #wasMember: boolean
  #isVoter = false
  /** It was removed while it was staged. */
  #removed = false

  constructor(parts: WatchParts) {
    this.#parts = parts
    this.#wasMember = this.#suffrageIn(parts.raft.configuration) !== undefined
    this.#undo = parts.raft.onConfiguration((configuration) => this.#onConfiguration(configuration))
    this.sample()
  }

  /** To be called every tick. */
  sample(): void {
    const { raft, nowMs } = this.#parts
    if (raft.role === 'leader') this.#samples.push({ atMs: nowMs(), lastIndex: raft.lastIndex })
  }

  /** Every attempt of this leader has ended; so many were told that they made it a voter. */
  end(promotions: number): void {
    this.#undo()
    const { server } = this.#parts
    if (promotions > 1) this.#fail(`${server.id} was promoted ${promotions} times`)
    if (promotions > 0 && !this.#isVoter) this.#fail(`${server.id} was promoted, and is no voter`)
  }

  #onConfiguration(configuration: Configuration): void {
    const suffrage = this.#suffrageIn(configuration)
    if (suffrage === undefined) {
      this.#removed ||= this.#wasMember
      return
    }
    this.#wasMember = true
    if (suffrage !== 'voter' || this.#isVoter) return
    this.#isVoter = true
    const { server } = this.#parts
    if (this.#removed) this.#fail(`${server.id} was removed, then promoted`)
    const needed = this.#neededAt(configuration.index)
    const { lastIndex } = server.disk
    if (lastIndex >= needed) return
    this.#fail(`${server.id} was promoted with ${lastIndex} of ${needed} entries`)
  }

  /** What the leader had a round before it proposed the entry at `index`. */
  #neededAt(index: Index): Index {
    const { timeoutMs } = this.#parts
    const before = this.#samples.findLast(({ lastIndex }) => lastIndex < index)
    if (before === undefined) return 0
    const roundMs = before.atMs - ROUND_TIMEOUTS * timeoutMs
    const first = this.#samples[0]
    const then = this.#samples.findLast(({ atMs }) => atMs <= roundMs) ?? first
    return then?.lastIndex ?? 0
  }

  #suffrageIn({ servers }: Configuration): 'voter' | 'learner' | undefined {
    return servers.find(({ id }) => id === this.#parts.server.id)?.suffrage
  }

  #fail(detail: string): void {
    this.#parts.verdict.fail('staging', detail)
  }
}
