/**
 * Commands that do one thing to each of several objects: all are tried, the exit code tells if
 * any failed.
 */
import type { CommandContext } from '../command.ts'
import { ApiError } from '../connection.ts'

/** Calls `act` for each reference and prints what it returns. Resolves to the exit code. */
export async function forEach(
  { console }: CommandContext,
  references: readonly string[],
  act: (reference: string) => Promise<string>,
): Promise<number> {
  let exitCode = 0
  for (const reference of references) {
    try {
      console.write(`${await act(reference)}\n`)
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      console.writeError(`Error response from daemon: ${error.message}\n`)
      exitCode = 1
    }
  }
  return exitCode
}
