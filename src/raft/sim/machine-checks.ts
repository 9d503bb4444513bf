/** What must hold for each command that a state machine applies, and for each snapshot restored. */
import type { Index } from '../core/entry.ts'
import type { CommittedEntry } from '../runtime/ports.ts'
import type { GlobalLog } from './global-log.ts'
import type { Command, RegisterMachine } from './register-machine.ts'
import { RestoreChecks } from './restore-checks.ts'
import type { Verdict } from './verdict.ts'

interface Version {
  readonly index: Index
  readonly value: number
}

/** Invariants of state machines. The first to apply an entry says what all must come to. */
export class MachineChecks {
  readonly #verdict: Verdict
  readonly #log: GlobalLog
  readonly restores: RestoreChecks
  /** Places where a state from outside took the place of everything. */
  readonly #replaced = new Set<Index>()
  /** State hash after each command. */
  readonly #hashes = new Map<Index, number>()
  readonly #versions = new Map<number, Version[]>()
  /** Where each command stands. */
  readonly #places = new Map<number, Index>()
  /** Commands of which a client was told that they have no effect. */
  readonly #refused = new Set<number>()

  constructor(verdict: Verdict, log: GlobalLog) {
    this.#verdict = verdict
    this.#log = log
    this.restores = new RestoreChecks(verdict)
  }

  onApply(node: string, entry: CommittedEntry, command: Command, machine: RegisterMachine): void {
    const { index } = entry
    this.#verdict.note(index * 3 + command.id)
    if (!this.#log.isCommitted({ ...entry, type: 'normal' })) {
      this.#verdict.fail('state-machine-safety', `${node} applied entry ${index}, not committed so`)
    }
    const known = this.#hashes.get(index)
    if (known === undefined) this.#first(index, command, machine)
    else if (known !== machine.hash) {
      this.#verdict.fail('state-machine-safety', `${node} has another state after entry ${index}`)
    }
  }

  onRestore(node: string, index: Index, machine: RegisterMachine): void {
    const last = this.lastCommand(index)
    const expected = last === 0 ? 0 : this.#hashes.get(last)
    if (expected === machine.hash) return
    const detail = `${node} restored a snapshot at ${index} with a state that was never there`
    this.#verdict.fail('state-machine-safety', detail)
  }

  /** A state from outside is in force on `node`: like a command that writes every register. */
  onReplaced(node: string, index: Index, machine: RegisterMachine): void {
    this.#verdict.note(index * 5 + machine.hash)
    this.restores.onReplaced(node, index, machine)
    const known = this.#hashes.get(index)
    if (known !== undefined) {
      if (known === machine.hash) return
      this.#verdict.fail('state-machine-safety', `${node} has another state from entry ${index} on`)
      return
    }
    if (this.#log.committed(index)?.isCommand !== false) {
      this.#verdict.fail(
        'state-machine-safety',
        `${node} was restored at ${index}, not committed so`,
      )
    }
    this.#hashes.set(index, machine.hash)
    this.#replaced.add(index)
    for (const key of new Set([...this.#versions.keys(), ...machine.keys])) {
      this.#addVersion(key, index, machine.get(key))
    }
  }

  /** Index of the last command, or restore, up to `index`. */
  lastCommand(index: Index): Index {
    let last = index
    while (last > 0 && !this.#replaced.has(last)) {
      if (this.#log.committed(last)?.isCommand === true) break
      last -= 1
    }
    return last
  }

  /** What a register holds after entry `index`. */
  valueAt(key: number, index: Index): number {
    return this.#versions.get(key)?.findLast((version) => version.index <= index)?.value ?? 0
  }

  /** Where a command stands, if it was ever applied. */
  placeOf(id: number): Index | undefined {
    return this.#places.get(id)
  }

  /** A client was told that command `id` took no effect. */
  onRefused(id: number): void {
    this.#refused.add(id)
    if (this.#places.has(id)) this.#haunt(id)
  }

  get applied(): number {
    return this.#places.size
  }

  #first(index: Index, command: Command, machine: RegisterMachine): void {
    this.#hashes.set(index, machine.hash)
    if (this.#places.has(command.id)) {
      const places = `${this.#places.get(command.id)} and ${index}`
      this.#verdict.fail('client-truth', `command ${command.id} stands at ${places}`)
    }
    this.#places.set(command.id, index)
    if (this.#refused.has(command.id)) this.#haunt(command.id)
    const skipped = this.lastCommand(index - 1)
    if (skipped > 0 && !this.#hashes.has(skipped)) {
      this.#verdict.fail('state-machine-safety', `entry ${skipped} was skipped before ${index}`)
    }
    this.#addVersion(command.key, index, machine.get(command.key))
  }

  #addVersion(key: number, index: Index, value: number): void {
    const versions = this.#versions.get(key) ?? []
    this.#versions.set(key, versions)
    if (versions.at(-1)?.value !== value) versions.push({ index, value })
  }

  #haunt(id: number): void {
    this.#verdict.fail('client-truth', `command ${id} was said to have no effect, but has one`)
  }
}
