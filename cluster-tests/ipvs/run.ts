/**
 * Runs cases inside a guest; a line of JSON for each. `node run.ts TITLE…` runs those alone; without
 * one it runs all.
 */
import { writeSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { errorText } from '../../src/base/errors.ts'
import { loadNative } from '../../src/network/netlink/native.ts'
import type { Case } from './case.ts'

/** The longest takes a minute; a guest under load is several times slower. */
const CASE_TIMEOUT_MS = 360_000
const ERROR_TEXT_MAX = 3_000

/** How a case ended. */
export interface CaseResult {
  readonly title: string
  readonly isPassed: boolean
  readonly error?: string
  readonly notes: readonly string[]
  readonly durationMs: number
}

/** Runs the cases one after another, each within the limit. */
export async function runCases(cases: readonly Case[], limitMs = CASE_TIMEOUT_MS): Promise<void> {
  const load = loadNative()
  if (load.type === 'absent') throw new Error(load.reason)
  const { native } = load
  const titles = process.argv.slice(2)
  const chosen = cases.filter((each) => titles.length === 0 || titles.includes(each.title))
  for (const { title, run } of chosen) {
    const notes: string[] = []
    const beganMs = performance.now()
    const running = run({ native, note: (text) => notes.push(text) })
    const result = await Promise.race([running, late(limitMs)]).then(
      () => ({ isPassed: true }),
      (error: unknown) => ({ isPassed: false, error: stackText(error) }),
    )
    const durationMs = Math.round(performance.now() - beganMs)
    const line: CaseResult = { title, ...result, notes, durationMs }
    writeSync(1, `${JSON.stringify(line)}\n`)
  }
  // A case that failed may have left something running.
  process.exit()
}

/** Rejects when a case takes too long. */
async function late(limitMs: number): Promise<never> {
  await setTimeout(limitMs, undefined, { ref: false })
  throw new Error(`did not end within ${limitMs} ms`)
}

function stackText(error: unknown): string {
  const text = error instanceof Error ? (error.stack ?? error.message) : errorText(error)
  return text.slice(0, ERROR_TEXT_MAX)
}
