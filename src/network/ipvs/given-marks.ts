/**
 * Which of the wanted marks packets have.
 *
 * Invariants: a mark is taken away before its service goes, and given when its service stands. What
 * is given is believed until a change fails; then, as at the start, all marks are given anew.
 */
import type { PacketMarks } from './packet-marks.ts'
import type { PacketMark } from './placement.ts'
import type { WantedPlacements } from './wanted-placements.ts'

/** What it works with. */
export interface GivenMarksParts {
  readonly marks: PacketMarks
  readonly wanted: WantedPlacements
  /** Whether the kernel refuses the services of a server. */
  readonly isRefused: (id: string) => boolean
}

/** Gives and takes marks. Calls must not overlap. */
export class GivenMarks {
  readonly #parts: GivenMarksParts
  /** What packets get, by mark; undefined: unknown. */
  #given: Map<number, readonly PacketMark[]> | undefined
  /** Marks to look at. */
  readonly #due = new Set<number>()

  constructor(parts: GivenMarksParts) {
    this.#parts = parts
  }

  /** Marks that came, went, or whose service is refused, or no longer. */
  note(marks: Iterable<number>): void {
    for (const mark of marks) this.#due.add(mark)
  }

  /** Takes away the marks that are wanted no more, while their services stand. */
  async withdraw(): Promise<void> {
    const given = this.#given
    if (given === undefined) return
    await this.#change(
      given,
      [...this.#due].filter((mark) => this.#wantedOf(mark).length === 0),
    )
  }

  /** Gives all that are wanted, and takes away what is not. */
  async give(): Promise<void> {
    const given = this.#given
    if (given === undefined) return this.#giveAll()
    await this.#change(given, [...this.#due])
    this.#due.clear()
  }

  async #giveAll(): Promise<void> {
    const all = new Map<number, readonly PacketMark[]>()
    for (const mark of this.#parts.wanted.marks()) all.set(mark, this.#wantedOf(mark))
    await this.#parts.marks.apply([...all.values()].flat())
    this.#given = all
    this.#due.clear()
  }

  async #change(
    given: Map<number, readonly PacketMark[]>,
    marks: readonly number[],
  ): Promise<void> {
    const isGiven = (mark: number): boolean => (given.get(mark) ?? []).length > 0
    const isWanted = (mark: number): boolean => this.#wantedOf(mark).length > 0
    const taken = marks.filter((mark) => isGiven(mark) && !isWanted(mark))
    const come = marks.filter((mark) => !isGiven(mark) && isWanted(mark))
    if (taken.length + come.length === 0) return
    // Not believed while it is being changed.
    this.#given = undefined
    await this.#parts.marks.change({
      given: come.flatMap((mark) => this.#wantedOf(mark)),
      taken: taken.flatMap((mark) => given.get(mark) ?? []),
    })
    for (const mark of taken) given.delete(mark)
    for (const mark of come) given.set(mark, this.#wantedOf(mark))
    this.#given = given
  }

  /** A published port whose service is refused gets no mark: userspace balances it. */
  #wantedOf(mark: number): readonly PacketMark[] {
    const { wanted, isRefused } = this.#parts
    const placement = wanted.owner(mark)
    if (placement === undefined) return []
    const { marks, server } = placement
    return server.protocol !== 'any' && isRefused(server.id) ? [] : marks
  }
}
