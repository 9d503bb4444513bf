/** `inspect` of several objects: a JSON array, or one object a line; what is missing is said last. */
import type { Arguments } from '../arguments.ts'
import { CommandError, FORMAT_FLAG } from '../command.ts'
import type { CommandContext, Flag } from '../command.ts'
import { ApiError } from '../connection.ts'

/** Flags of all inspect commands. */
export const INSPECT_FLAGS: readonly Flag[] = [
  { ...FORMAT_FLAG, help: "Format output: 'json' prints one object a line" },
]

/** Prints each object that `load` finds. Resolves to the exit code. */
export async function inspectAll(
  { console }: CommandContext,
  given: Arguments,
  load: (reference: string) => Promise<unknown>,
): Promise<number> {
  const format = given.text('format')
  if (format !== undefined && format !== 'json') {
    throw new CommandError('Go templates are not supported: use --format json')
  }
  const found: unknown[] = []
  const problems: string[] = []
  for (const reference of given.positionals) {
    try {
      found.push(await load(reference))
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      problems.push(error.message)
    }
  }
  if (format === 'json') for (const one of found) console.write(`${JSON.stringify(one)}\n`)
  else console.write(`${JSON.stringify(found, null, 4)}\n`)
  for (const problem of problems) console.writeError(`Error response from daemon: ${problem}\n`)
  return problems.length === 0 ? 0 : 1
}
