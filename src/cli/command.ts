/**
 * What a client command is: its flags, its arguments and what it does. A command is loaded only
 * when it is run, so that start-up stays short.
 */
import type { Arguments } from './arguments.ts'
import type { ApiClient } from './connection.ts'

/** What the text after a flag must be. `list` may be given many times. */
export type FlagKind = 'boolean' | 'string' | 'list' | 'uint' | 'decimal' | 'bytes' | 'duration'

/** One flag of a command. */
export interface Flag {
  readonly name: string
  readonly short?: string
  readonly kind: FlagKind
  /** How help names the value, if not by its kind. */
  readonly value?: string
  readonly help: string
}

/** Where text goes. Lines are written whole; `isTerminal` says whether they may be redrawn. */
export interface Console {
  readonly isTerminal: boolean
  /** Width of the terminal in characters. */
  readonly columns: number
  /** Standard output. */
  write(text: string): void
  /** Standard error. */
  writeError(text: string): void
}

/** What a command works with. */
export interface CommandContext {
  readonly client: ApiClient
  readonly console: Console
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Wall time in milliseconds, for relative times. */
  now(): number
  /** From the call on, Ctrl-C aborts the signal instead of ending the process. */
  interruption(): AbortSignal
}

/** A command. */
export interface Command {
  /** After the command's name: `[OPTIONS] SERVICE [SERVICE...]`. */
  readonly usage: string
  /** One sentence. */
  readonly short: string
  readonly flags: readonly Flag[]
  readonly minimum: number
  /** Most positional arguments; undefined = any number. */
  readonly maximum?: number
  /** The first positional argument ends the flags (the rest belongs to the container). */
  readonly flagsFirst?: boolean
  /** Resolves to the exit code. @throws CommandError, ApiError */
  run(context: CommandContext, given: Arguments): Promise<number>
}

/** A refusal of this client: printed as it is. Exit code 1, or 125 for flags, as with docker. */
export class CommandError extends Error {
  override readonly name = 'CommandError'
  readonly exitCode: number
  /** Whether usage lines follow. */
  readonly showUsage: boolean

  constructor(
    message: string,
    options: { readonly exitCode?: number; readonly showUsage?: boolean } = {},
  ) {
    super(message)
    this.exitCode = options.exitCode ?? 1
    this.showUsage = options.showUsage ?? false
  }
}

/** Exit code of a wrong flag. */
export const EXIT_WRONG_FLAG = 125

/** `--format`, `--quiet`, `--filter` and `--no-trunc` as all listings have them. */
export const FORMAT_FLAG: Flag = {
  name: 'format',
  kind: 'string',
  help: "Format output: 'table' or 'json'",
}

export const QUIET_FLAG: Flag = {
  name: 'quiet',
  short: 'q',
  kind: 'boolean',
  help: 'Only display IDs',
}

export const FILTER_FLAG: Flag = {
  name: 'filter',
  short: 'f',
  kind: 'list',
  value: 'filter',
  help: 'Filter output based on conditions provided',
}

export const NO_TRUNC_FLAG: Flag = {
  name: 'no-trunc',
  kind: 'boolean',
  help: 'Do not truncate output',
}
