/**
 * Listings: a table with docker's columns, or one JSON object a line with docker's member names.
 * Columns are at least 10 wide and 3 apart; the last one is not padded.
 */
import { CommandError } from './command.ts'
import type { CommandContext } from './command.ts'
import type { Arguments } from './arguments.ts'

/** Narrowest column with its gap, and the gap. */
const COLUMN_WIDTH_MIN = 10
const COLUMN_GAP = 3

/** One object of a listing, by docker's member names. */
export type Row = Readonly<Record<string, string | boolean>>

/** A column: its head, and the member it shows, or how it is made of several. */
export type Column = readonly [head: string, member: string | ((row: Row) => string)]

/** How a listing is to be printed. @throws CommandError for docker's Go templates */
export function formatOf(given: Arguments): 'table' | 'json' {
  const format = given.text('format') ?? 'table'
  if (format === 'json' || format === 'table') return format
  const what = format.includes('{{')
    ? 'Go templates are not supported'
    : `unknown format "${format}"`
  throw new CommandError(`${what}: use --format json (one JSON object a line) or --format table`)
}

/** Prints rows as `--quiet` (that member alone), `--format json`, or a table. */
export function printRows(
  { console }: CommandContext,
  rows: readonly Row[],
  options: {
    readonly columns: readonly Column[]
    readonly given: Arguments
    /** Member that `--quiet` prints. */
    readonly identifier: string
  },
): void {
  const format = formatOf(options.given)
  if (options.given.flag('quiet')) {
    for (const row of rows) console.write(`${String(row[options.identifier] ?? '')}\n`)
  } else if (format === 'json') {
    for (const row of rows) console.write(`${JSON.stringify(row)}\n`)
  } else {
    console.write(tableText(rows, options.columns))
  }
}

/** The whole table, heads first. */
export function tableText(rows: readonly Row[], columns: readonly Column[]): string {
  const lines = [
    columns.map(([head]) => head),
    ...rows.map((row) => columns.map(([, member]) => cellText(row, member))),
  ]
  const widths = columns.map((_, index) =>
    Math.max(COLUMN_WIDTH_MIN, ...lines.map((cells) => (cells[index] ?? '').length + COLUMN_GAP)),
  )
  return lines.map((cells) => `${lineText(cells, widths)}\n`).join('')
}

function cellText(row: Row, member: Column[1]): string {
  return typeof member === 'string' ? String(row[member] ?? '') : member(row)
}

function lineText(cells: readonly string[], widths: readonly number[]): string {
  return cells
    .map((cell, index) => (index === cells.length - 1 ? cell : cell.padEnd(widths[index] ?? 0)))
    .join('')
}
