/** Medians, ranges and tables of what was measured. */

/** Summary of some measurements. */
export interface Summary {
  readonly runs: number
  readonly median: number
  readonly min: number
  readonly max: number
}

/** @throws when there are no values */
export function summarise(values: readonly number[]): Summary {
  const sorted = values.toSorted((a, b) => a - b)
  const [min] = sorted
  const max = sorted.at(-1)
  const low = sorted[Math.floor((sorted.length - 1) / 2)]
  const high = sorted[Math.ceil((sorted.length - 1) / 2)]
  if (min === undefined || max === undefined || low === undefined || high === undefined) {
    throw new Error('summary: there are no values')
  }
  return { runs: sorted.length, median: (low + high) / 2, min, max }
}

function tableLine(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`
}

/** A Markdown table; the first row is the heading. */
export function markdownTable(rows: readonly (readonly string[])[]): string {
  const [heading, ...body] = rows
  const rule = tableLine((heading ?? []).map(() => '---'))
  return [tableLine(heading ?? []), rule, ...body.map((cells) => tableLine(cells))].join('\n')
}

/** `median unit (min–max)`, values divided by `scale`. */
export function rangeText(summary: Summary, scale: number, unit: string): string {
  const text = (value: number): string => (value / scale).toFixed(2)
  const median = [text(summary.median), unit].filter((word) => word !== '').join(' ')
  return `${median} (${text(summary.min)}–${text(summary.max)})`
}
