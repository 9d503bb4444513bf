/** What the doctor says of one thing, and the order in which it says it. */

/** `fail`: Skein does not work so; `warn`: it works, but less or not for long. */
export type Level = 'pass' | 'warn' | 'fail'

/** One line of the doctor. */
export interface Finding {
  /** What was looked at, in few words: `clock`, `disk latency`. */
  readonly check: string
  readonly level: Level
  /** What was found, with figures. */
  readonly message: string
  /** What to do; absent when nothing needs doing. */
  readonly advice?: string
}

/** Looks at one thing. Says what it found; throws only when it could not look. */
export interface Check {
  readonly name: string
  run(): Promise<Finding | readonly Finding[]>
}

/** A check that is fine. */
export function pass(check: string, message: string): Finding {
  return { check, level: 'pass', message }
}

/** A check that should be better. */
export function warn(check: string, message: string, advice: string): Finding {
  return { check, level: 'warn', message, advice }
}

/** A check that must be mended. */
export function fail(check: string, message: string, advice: string): Finding {
  return { check, level: 'fail', message, advice }
}

/** The worst of several. */
export function worstLevel(findings: readonly Finding[]): Level {
  if (findings.some((finding) => finding.level === 'fail')) return 'fail'
  return findings.some((finding) => finding.level === 'warn') ? 'warn' : 'pass'
}
