/** Command lines of the scripts: `--help` and mistakes end with the usage, not with a stack trace. */
import { parseArgs, type ParseArgsConfig } from 'node:util'

/** The option that every script has. */
export const HELP = { type: 'boolean', short: 'h', default: false } as const

/** The command line, if it is right and does not ask for help: then the process ends. */
export function parseCommandLine<T extends ParseArgsConfig>(
  usage: string,
  config: T,
): ReturnType<typeof parseArgs<T>> {
  try {
    const parsed = parseArgs(config)
    if ('help' in parsed.values && parsed.values['help'] === true) endWithUsage(usage)
    return parsed
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    return endWithUsage(usage, error.message)
  }
}

/** Ends the process: with 2 for `mistake`, else with 0. */
export function endWithUsage(usage: string, mistake?: string): never {
  if (mistake === undefined) process.stdout.write(usage)
  else process.stderr.write(`${mistake}\n${usage}`)
  process.exit(mistake === undefined ? 0 : 2)
}
