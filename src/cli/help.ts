/** Help texts in docker's form. */
import type { Command, Flag } from './command.ts'

/** Widest line of help. */
const WIDTH = 80

/** How help names the value of a flag, by its kind. */
const VALUE_NAMES: Readonly<Record<Flag['kind'], string>> = {
  boolean: '',
  string: 'string',
  list: 'list',
  uint: 'uint',
  decimal: 'decimal',
  bytes: 'bytes',
  duration: 'duration',
}

/** `skein service rm --help`. */
export function commandHelp(path: string, command: Command): string {
  const flags =
    command.flags.length === 0 ? '' : `\nOptions:\n${flagLines(command.flags).join('\n')}\n`
  return `${usageLine(path, command)}\n\n${command.short}\n${flags}`
}

/** `Usage:  skein service rm SERVICE [SERVICE...]` */
export function usageLine(path: string, command: Command): string {
  return `Usage:  ${`${path} ${command.usage}`.trimEnd()}`
}

/** Help of `skein` or of a group such as `skein service`. */
export function groupHelp(
  path: string,
  group: { readonly short: string; readonly entries: ReadonlyMap<string, string> },
): string {
  const width = Math.max(...[...group.entries.keys()].map((name) => name.length)) + 3
  const lines = [...group.entries].map(([name, short]) => `  ${name.padEnd(width)}${short}`)
  return (
    `Usage:  ${path} COMMAND\n\n${group.short}\n\nCommands:\n${lines.join('\n')}\n\n` +
    `Run '${path} COMMAND --help' for more information on a command.\n`
  )
}

function flagLines(flags: readonly Flag[]): string[] {
  const sorted = flags.toSorted((a, b) => (a.name < b.name ? -1 : 1))
  const heads = sorted.map((flag) => {
    const short = flag.short === undefined ? '    ' : `-${flag.short}, `
    return `  ${short}--${flag.name} ${flag.value ?? VALUE_NAMES[flag.kind]}`.trimEnd()
  })
  const width = Math.max(...heads.map((head) => head.length)) + 3
  return sorted.map((flag, index) => {
    const lines = wrapped(flag.help, WIDTH - width)
    return (heads[index] ?? '').padEnd(width) + lines.join(`\n${' '.repeat(width)}`)
  })
}

function wrapped(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else {
      line = line === '' ? word : `${line} ${word}`
    }
  }
  return [...lines, line]
}
