/**
 * Numbers with units as docker's flags take them. NaN: the text is none.
 * Source: Go `time.ParseDuration`, docker `opts.MemBytes` and `opts.NanoCPUs`, in their behaviour.
 */

const DURATION_UNITS_NS: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  µs: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9,
}

const SIZE_UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 1024,
  m: 1024 ** 2,
  g: 1024 ** 3,
  t: 1024 ** 4,
}

/** A whole number from 0. */
export function parseUint(text: string): number {
  return /^\d{1,15}$/.test(text) ? Number(text) : NaN
}

/** CPUs as billionths. */
export function parseCpus(text: string): number {
  return /^\d+(\.\d+)?$|^\.\d+$/.test(text) ? Math.round(Number(text) * 1e9) : NaN
}

/** `64m`, `1.5g`, `512k`, `100` as bytes (units of 1024). */
export function parseBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?$/i.exec(text)
  if (match === null) return NaN
  return Math.round(Number(match[1]) * (SIZE_UNITS[(match[2] ?? '').toLowerCase()] ?? NaN))
}

/** `1m30s`, `500ms`, `0` as nanoseconds. */
export function parseDuration(text: string): number {
  if (text === '0') return 0
  if (!/^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/.test(text)) return NaN
  let total = 0
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)) {
    total += Number(amount) * (DURATION_UNITS_NS[unit ?? ''] ?? NaN)
  }
  return Math.round(total)
}

/** Reader of each numeric kind of flag. */
export const QUANTITIES = {
  uint: parseUint,
  decimal: parseCpus,
  bytes: parseBytes,
  duration: parseDuration,
} as const
