/**
 * Command lines as docker takes them: `--flag value`, `--flag=value`, `-f value`, `-fvalue`,
 * grouped short flags, `--` to end the flags; docker's words for what is wrong. The splitting is
 * Node's `parseArgs`; the meaning is ours.
 */
import { parseArgs } from 'node:util'
import { Arguments } from './arguments.ts'
import { CommandError, EXIT_WRONG_FLAG } from './command.ts'
import type { Command, Flag } from './command.ts'
import { QUANTITIES } from './quantity.ts'

/** Flags that every command has. */
const HELP_FLAG: Flag = { name: 'help', short: 'h', kind: 'boolean', help: 'Print usage' }

/** @throws CommandError in docker's words */
export function parseArguments(command: Command, args: readonly string[]): Arguments {
  const flags = [...command.flags, HELP_FLAG]
  const tokens = tokenize(flags, args)
  const values = new Map<string, string[]>()
  const positionals: string[] = []
  for (const token of tokens) {
    if (token.kind === 'option-terminator') continue
    if (token.kind === 'positional') {
      if (command.flagsFirst === true) {
        positionals.push(...args.slice(token.index))
        break
      }
      positionals.push(token.value)
      continue
    }
    const flag = knownFlag(flags, token)
    values.set(flag.name, [...(values.get(flag.name) ?? []), valueOf(flag, token)])
  }
  return new Arguments(values, positionals)
}

/** @throws CommandError when there are too few or too many */
export function checkCount(command: Command, path: string, given: Arguments): void {
  const count = given.positionals.length
  const { minimum, maximum } = command
  if (count >= minimum && (maximum === undefined || count <= maximum)) return
  const problem =
    maximum === 0
      ? 'accepts no arguments'
      : minimum === maximum
        ? `requires ${plural(minimum)}`
        : count < minimum
          ? `requires at least ${plural(minimum)}`
          : `requires at most ${plural(maximum ?? 0)}`
  throw new CommandError(`skein: '${path}' ${problem}`, { showUsage: true })
}

interface OptionToken {
  readonly kind: 'option'
  readonly index: number
  readonly name: string
  /** As it was spelled: `-d`, `--detach`. */
  readonly rawName: string
  readonly value?: string | undefined
}

/** What `parseArgs` splits a command line into. */
type Token =
  | OptionToken
  | { readonly kind: 'positional'; readonly index: number; readonly value: string }
  | { readonly kind: 'option-terminator'; readonly index: number }

function tokenize(flags: readonly Flag[], args: readonly string[]): readonly Token[] {
  const options = Object.fromEntries(
    flags.map((flag) => [
      flag.name,
      {
        type: flag.kind === 'boolean' ? ('boolean' as const) : ('string' as const),
        ...(flag.short === undefined ? {} : { short: flag.short }),
      },
    ]),
  )
  const spelled = args.map((argument) => spellOut(flags, argument))
  return parseArgs({ args: spelled, options, strict: false, allowPositionals: true, tokens: true })
    .tokens
}

/** `-d=false` means `--detach=false`; `parseArgs` would read it as a group of short flags. */
function spellOut(flags: readonly Flag[], argument: string): string {
  const match = /^-([a-zA-Z])=(.*)$/s.exec(argument)
  const flag = flags.find((one) => one.short !== undefined && one.short === match?.[1])
  return flag === undefined ? argument : `--${flag.name}=${match?.[2] ?? ''}`
}

function knownFlag(flags: readonly Flag[], token: OptionToken): Flag {
  const flag = flags.find((one) => one.name === token.name)
  if (flag !== undefined) return flag
  const text = token.rawName.startsWith('--')
    ? `unknown flag: --${token.name}`
    : `unknown shorthand flag: '${token.name}' in -${token.name}`
  throw new CommandError(text, { exitCode: EXIT_WRONG_FLAG, showUsage: true })
}

function valueOf(flag: Flag, token: OptionToken): string {
  if (flag.kind === 'boolean') return booleanText(flag, token.value)
  if (token.value === undefined) {
    throw new CommandError(`flag needs an argument: ${token.rawName}`, {
      exitCode: EXIT_WRONG_FLAG,
      showUsage: true,
    })
  }
  if (flag.kind !== 'string' && flag.kind !== 'list') checkQuantity(flag, token.value)
  return token.value
}

function checkQuantity(flag: Flag, text: string): void {
  if (flag.kind === 'boolean' || flag.kind === 'string' || flag.kind === 'list') return
  if (!Number.isNaN(QUANTITIES[flag.kind](text))) return
  throw wrongValue(flag, text, `not a ${WORDS[flag.kind]}`)
}

const WORDS = {
  uint: 'whole number',
  decimal: 'decimal number',
  bytes: 'size (b|k|m|g)',
  duration: 'duration (ns|us|ms|s|m|h)',
} as const

function booleanText(flag: Flag, value: string | undefined): string {
  if (value === undefined || /^(1|t|true)$/i.test(value)) return 'true'
  if (/^(0|f|false)$/i.test(value)) return 'false'
  throw wrongValue(flag, value, 'not true or false')
}

function wrongValue(flag: Flag, value: string, reason: string): CommandError {
  const short = flag.short === undefined ? '' : `-${flag.short}, `
  return new CommandError(
    `invalid argument "${value}" for "${short}--${flag.name}" flag: ${reason}`,
    {
      exitCode: EXIT_WRONG_FLAG,
      showUsage: true,
    },
  )
}

function plural(count: number): string {
  return count === 1 ? '1 argument' : `${count} arguments`
}
