/** `inspect` of several objects: a JSON array; what is missing is said last. */
import type { Arguments } from '../arguments.ts'
import { CommandError, FORMAT_FLAG } from '../command.ts'
import type { CommandContext, Flag } from '../command.ts'
import { ApiError } from '../connection.ts'

/** Flags of all inspect commands. */
export const INSPECT_FLAGS: readonly Flag[] = [
  { ...FORMAT_FLAG, help: "Format output: 'json' prints all on one line" },
]

/**
 * How one object is found, and what is said when the daemon has none (by default its own words).
 */
export interface Inspection<T> {
  readonly load: (reference: string) => Promise<T>
  readonly missing?: (reference: string) => string
  /** The object for people, where there is a `--pretty`. */
  readonly text?: (object: T) => string
}

/** Prints each object that is found. Resolves to the exit code. */
export async function inspectAll<T>(
  { console }: CommandContext,
  given: Arguments,
  inspection: Inspection<T>,
): Promise<number> {
  const print = printer(given, inspection)
  const found: T[] = []
  const problems: string[] = []
  for (const reference of given.positionals) {
    try {
      found.push(await inspection.load(reference))
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      const said = error.status === 404 ? inspection.missing?.(reference) : undefined
      problems.push(said ?? `Error response from daemon: ${error.message}`)
    }
  }
  console.write(print(found))
  for (const problem of problems) console.writeError(`${problem}\n`)
  return problems.length === 0 ? 0 : 1
}

/** @throws CommandError for Go templates and two forms at once */
function printer<T>(given: Arguments, { text }: Inspection<T>): (found: readonly T[]) => string {
  const format = given.text('format')
  if (format !== undefined && format !== 'json') {
    throw new CommandError('Go templates are not supported: use --format json')
  }
  if (text === undefined || !given.flag('pretty')) {
    const indentation = format === 'json' ? 0 : 4
    return (found) => `${JSON.stringify(found, null, indentation)}\n`
  }
  if (format !== undefined) {
    throw new CommandError('--format is incompatible with human friendly format')
  }
  return (found) => found.map((one) => text(one)).join('\n')
}
