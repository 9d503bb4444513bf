/**
 * The last act of some runs: everything stops in the middle of writes, all disks but one are gone
 * for good, and the operators force the survivor to go on alone (`Raft.recover`), perhaps twice,
 * since their machine dies in the middle of it. Then a new machine joins.
 *
 * The survivor is the member whose log ends last, by term and then by index, as operators are told
 * to choose. Of all members it is the one whom every other would have voted for, so it holds all
 * that was ever committed (leader completeness), and the invariants stay what they are: no
 * acknowledged write is lost, none that was refused appears, no read is stale. What only its log
 * held counts as committed from now on.
 */
import { errorText } from '../../base/errors.ts'
import type { Server } from '../runtime/ports.ts'
import type { Clients } from './clients.ts'
import type { Cluster } from './cluster.ts'
import type { Dice } from './dice.ts'
import type { SimNode } from './sim-node.ts'
import type { Verdict } from './verdict.ts'

/** Part of the runs that end so. */
const DISASTERS = 0.25
/** Chance that the machine dies in the middle of the recovery. */
const DIES = 0.4
/** Writes on their way when everything stops, at most. */
const WRITES_MAX = 8

interface DisasterParts {
  readonly cluster: Cluster
  readonly clients: Clients
  readonly dice: Dice
  readonly verdict: Verdict
  readonly keys: number
  readonly timeoutMs: number
}

/** A disaster and its repair. */
export class Disaster {
  readonly #parts: DisasterParts
  #isRepaired = false

  constructor(parts: DisasterParts) {
    this.#parts = parts
  }

  /** Whether there is one in this run. */
  static strikes(dice: Dice): boolean {
    return dice.chance(DISASTERS)
  }

  /** Whether the survivor has been forced, and runs. */
  get isRepaired(): boolean {
    return this.#isRepaired
  }

  /** Everything stops, soon. */
  begin(): void {
    const { cluster, dice, timeoutMs } = this.#parts
    for (let count = dice.integer(0, WRITES_MAX); count > 0; count -= 1) {
      cluster.later(dice.between(0, 0.1) * timeoutMs, () => this.#write())
    }
    cluster.later(dice.between(0, 0.15) * timeoutMs, () => this.#strike())
  }

  /** Somebody asks the survivor for everything, and a new machine comes in. */
  aftermath(): void {
    const { cluster, clients, keys } = this.#parts
    const { leader } = cluster
    if (leader?.raft === undefined) return
    for (let key = 1; key <= keys; key += 1) clients.read(leader, key)
    if (cluster.isFull) return
    const node = cluster.create()
    node.start()
    leader.raft.addLearner(node.id, `at-${node.id}`).catch((error: unknown) => {
      this.#parts.verdict.fail('liveness', `nobody joins the survivor: ${errorText(error)}`)
    })
  }

  #write(): void {
    const { cluster, clients, dice, keys } = this.#parts
    const { leader } = cluster
    if (leader === undefined) return
    const key = dice.integer(1, keys)
    const common = { atMs: 0, type: 'write', who: 0, swap: false, padding: 0 } as const
    clients.write(leader, { ...common, key, count: dice.integer(1, 3) })
  }

  #strike(): void {
    const { cluster } = this.#parts
    const members = new Set(cluster.leader?.raft?.configuration.servers.map(({ id }) => id))
    for (const node of cluster.present) cluster.crash(node)
    const candidates = cluster.present.filter(({ id }) => members.size === 0 || members.has(id))
    const [survivor] = candidates.toSorted(logEndsLater)
    for (const node of cluster.present) node.lost = node !== survivor
    if (survivor !== undefined) this.#recover(survivor)
  }

  #recover(survivor: SimNode): void {
    const { cluster, dice, verdict, timeoutMs } = this.#parts
    const { id } = survivor
    const servers: readonly Server[] = [{ id, address: `at-${id}`, suffrage: 'voter' }]
    const attempt = survivor.recover(servers)
    const wait = async (): Promise<void> => {
      await attempt.done
      survivor.start()
      this.#isRepaired = true
    }
    wait().catch((error: unknown) => {
      verdict.fail('crash', `the recovery of ${id} failed: ${errorText(error)}`)
    })
    if (dice.chance(DIES)) {
      cluster.later(dice.exponential(0.002 * timeoutMs), () => {
        if (survivor.isUp) return
        attempt.die()
        this.#recover(survivor)
      })
    }
  }
}

/** The later end of a log first. */
function logEndsLater({ disk: a }: SimNode, { disk: b }: SimNode): number {
  const [termA, termB] = [a.term(a.lastIndex) ?? 0, b.term(b.lastIndex) ?? 0]
  return termA === termB ? b.lastIndex - a.lastIndex : termB - termA
}
