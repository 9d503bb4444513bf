/** What was given on a command line, as the command reads it; `parse-arguments.ts` makes it. */
import { QUANTITIES } from './quantity.ts'

/** What was given on the command line. */
export class Arguments {
  readonly #values: ReadonlyMap<string, readonly string[]>
  readonly positionals: readonly string[]

  constructor(values: ReadonlyMap<string, readonly string[]>, positionals: readonly string[]) {
    this.#values = values
    this.positionals = positionals
  }

  has(name: string): boolean {
    return this.#values.has(name)
  }

  /** Whether a boolean flag is set. */
  flag(name: string): boolean {
    return this.#values.get(name)?.at(-1) === 'true'
  }

  /** The last value of a flag. */
  text(name: string): string | undefined {
    return this.#values.get(name)?.at(-1)
  }

  /** All values of a flag, in order. */
  list(name: string): readonly string[] {
    return this.#values.get(name) ?? []
  }

  /**
   * The last value of a numeric flag: whole number, nanoseconds, bytes or billionths by its kind.
   */
  number(name: string, kind: keyof typeof QUANTITIES): number | undefined {
    const text = this.text(name)
    return text === undefined ? undefined : QUANTITIES[kind](text)
  }
}
