/** One run of the client: global flags, the command tree, errors as text and exit code. */
import { errorText, isSwarmError } from '../base/errors.ts'
import { checkCount, parseArguments } from './parse-arguments.ts'
import { CommandError, EXIT_WRONG_FLAG } from './command.ts'
import type { Command, Console } from './command.ts'
import { COMMANDS, GROUPS } from './commands.ts'
import type { Entry, Group } from './commands.ts'
import { ApiClient, ApiError, ConnectionError } from './connection.ts'
import { SOCKET_PATH_DEFAULT } from './daemon-options.ts'
import { commandHelp, groupHelp, usageLine } from './help.ts'
import { packageVersion } from './package-version.ts'

const TOP_SHORT =
  'A decentralised swarm orchestrator for machines that nobody operates\n\n' +
  'Global options, before the command:\n' +
  '  -H, --host string   Daemon socket, unix:///path (also SKEIN_HOST, DOCKER_HOST)\n' +
  '  -v, --version       Print version and quit'

/** What stands before the command. */
interface GlobalFlags {
  readonly host: string | undefined
  readonly version: boolean
  readonly help: boolean
  readonly rest: readonly string[]
}

/** Runs the command line; resolves to the exit code. */
export async function run(args: readonly string[]): Promise<number> {
  const console = processConsole()
  try {
    return await dispatch(args, console)
  } catch (error) {
    return report(error, console)
  }
}

async function dispatch(args: readonly string[], console: Console): Promise<number> {
  const globals = globalFlags(args)
  if (globals.version) {
    console.write(`Skein version ${packageVersion()}\n`)
    return 0
  }
  const [first, second] = globals.rest
  if (first === undefined || first === 'help' || globals.help) {
    console.write(groupHelp('skein', { short: TOP_SHORT, entries: topEntries() }))
    return 0
  }
  const entry = find(COMMANDS, first)
  if (entry !== undefined) return runCommand(`skein ${first}`, entry, { globals, skip: 1, console })
  const group = Object.hasOwn(GROUPS, first) ? GROUPS[first] : undefined
  if (group === undefined) throw unknownCommand(`skein ${first}`, 'skein')
  if (second === undefined || second === '--help' || second === '-h') {
    console.write(groupHelp(`skein ${first}`, { short: group.short, entries: shorts(group) }))
    return 0
  }
  const member = find(group.entries, second)
  if (member === undefined) throw unknownCommand(`skein ${first} ${second}`, `skein ${first}`)
  return runCommand(`skein ${first} ${second}`, member, { globals, skip: 2, console })
}

async function runCommand(
  path: string,
  entry: Entry,
  at: { readonly globals: GlobalFlags; readonly skip: number; readonly console: Console },
): Promise<number> {
  const command = await entry.load()
  const { globals, console } = at
  const args = globals.rest.slice(at.skip)
  try {
    const given = parseArguments(command, args)
    if (given.flag('help')) {
      console.write(commandHelp(path, command))
      return 0
    }
    checkCount(command, path, given)
    return await command.run(
      {
        client: new ApiClient(hostOf(globals.host)),
        console,
        environment: process.env,
        now: () => Date.now(),
        interruption: interrupted,
      },
      given,
    )
  } catch (error) {
    throw withUsage(error, path, command)
  }
}

/** `--host`, then SKEIN_HOST, then DOCKER_HOST, then the default. @throws CommandError */
function hostOf(flag: string | undefined): string {
  const { SKEIN_HOST: skein = '', DOCKER_HOST: docker = '' } = process.env
  const host = flag ?? (skein || docker || `unix://${SOCKET_PATH_DEFAULT}`)
  if (host.startsWith('unix://') || host.startsWith('/')) {
    return host.startsWith('/') ? `unix://${host}` : host
  }
  throw new CommandError(`unable to parse host "${host}": only unix:///path is supported`)
}

/** @throws CommandError for an unknown flag */
function globalFlags(args: readonly string[]): GlobalFlags {
  let host: string | undefined
  let index = 0
  for (; index < args.length; index++) {
    const argument = args[index] ?? ''
    const inline = /^(?:-H=?|--host=)(.+)$/.exec(argument)?.[1]
    if (inline !== undefined) host = inline
    else if (argument === '-H' || argument === '--host') host = args[++index]
    else break
  }
  const rest = args.slice(index)
  const next = rest[0] ?? ''
  if (next.startsWith('-') && !['-h', '--help', '-v', '--version'].includes(next)) {
    throw new CommandError(
      `unknown flag: ${next}\n\nUsage:  skein [OPTIONS] COMMAND [ARG...]\n\n` +
        "Run 'skein --help' for more information",
      { exitCode: EXIT_WRONG_FLAG },
    )
  }
  return {
    host,
    version: next === '-v' || next === '--version',
    help: next === '-h' || next === '--help',
    rest,
  }
}

function find(entries: Readonly<Record<string, Entry>>, name: string): Entry | undefined {
  if (Object.hasOwn(entries, name)) return entries[name]
  return Object.values(entries).find((entry) => entry.aliases?.includes(name) === true)
}

function shorts(group: Group): ReadonlyMap<string, string> {
  return new Map(Object.entries(group.entries).map(([name, entry]) => [name, entry.short]))
}

function topEntries(): ReadonlyMap<string, string> {
  const groups = Object.entries(GROUPS).map(([name, group]) => [name, group.short] as const)
  const commands = Object.entries(COMMANDS).map(([name, entry]) => [name, entry.short] as const)
  return new Map([...groups, ...commands].toSorted(([a], [b]) => (a < b ? -1 : 1)))
}

function unknownCommand(path: string, parent: string): CommandError {
  return new CommandError(
    `skein: unknown command: ${path}\n\nRun '${parent} --help' for more information`,
  )
}

function withUsage(error: unknown, path: string, command: Command): unknown {
  if (!(error instanceof CommandError) || !error.showUsage) return error
  return new CommandError(
    `${error.message}\n\n${usageLine(path, command)}\n\nRun '${path} --help' for more information`,
    { exitCode: error.exitCode },
  )
}

function report(error: unknown, console: Console): number {
  if (error instanceof CommandError) {
    if (error.message !== '') console.writeError(`${error.message}\n`)
    return error.exitCode
  }
  if (error instanceof ApiError) {
    console.writeError(`Error response from daemon: ${error.message}\n`)
    return 1
  }
  if (error instanceof ConnectionError) {
    console.writeError(`${error.message}\n`)
    return 1
  }
  if (isSwarmError(error)) {
    console.writeError(`skein: ${errorText(error)}\n`)
    return 1
  }
  throw error
}

function processConsole(): Console {
  // Who reads us (`| head -1`) may have read enough: that is no error, and nothing more is to be
  // said.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0)
    throw error
  })
  return {
    isTerminal: process.stdout.isTTY,
    // Some terminals say 0: they do not know how wide they are.
    columns: process.stdout.isTTY ? process.stdout.columns || Infinity : Infinity,
    write: (text) => {
      process.stdout.write(text)
    },
    writeError: (text) => {
      process.stderr.write(text)
    },
  }
}

/**
 * From the call on, the first Ctrl-C aborts the signal; the second one ends the process as usual.
 */
function interrupted(): AbortSignal {
  const controller = new AbortController()
  process.once('SIGINT', () => controller.abort())
  return controller.signal
}
