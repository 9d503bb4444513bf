/** `--filter key=value`, as many times as wanted. */
import type { Arguments } from './arguments.ts'
import { CommandError, EXIT_WRONG_FLAG } from './command.ts'

/** Values by key. @throws CommandError in docker's words */
export function filtersOf(given: Arguments): Record<string, string[]> {
  const filters: Record<string, string[]> = {}
  for (const text of given.list('filter')) {
    const separator = text.indexOf('=')
    if (separator < 1) {
      throw new CommandError(
        `invalid argument "${text}" for "-f, --filter" flag: ` +
          'bad format of filter (expected name=value)',
        { exitCode: EXIT_WRONG_FLAG, showUsage: true },
      )
    }
    const key = text.slice(0, separator).trim().toLowerCase()
    filters[key] = [...(filters[key] ?? []), text.slice(separator + 1).trim()]
  }
  return filters
}
