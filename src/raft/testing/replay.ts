/** Replays a script of any kind and tells where the output differs. */
import { errorText } from '../../base/errors.ts'
import { ConfChangeScript } from './confchange-script.ts'
import { InteractionScript } from './interaction-script.ts'
import { runQuorumCase } from './quorum-script.ts'
import { CommandError, parseScript, type ScriptCase } from './script.ts'

/** Which commands a script has. */
export type ScriptKind = 'quorum' | 'confchange' | 'interaction'

/** One case and what it printed. */
export interface CaseResult {
  readonly test: ScriptCase
  readonly actual: string
  readonly passed: boolean
}

/** The kind of a script, by its first command. */
export function kindOfScript(cases: readonly ScriptCase[]): ScriptKind {
  const command = cases[0]?.command
  if (command === 'committed' || command === 'vote') return 'quorum'
  if (command === 'simple' || command === 'enter-joint' || command === 'leave-joint')
    return 'confchange'
  return 'interaction'
}

/**
 * Runs every case of a script, whatever the ones before came to. A case that throws has failed,
 * with the error as its output.
 */
export function replayScript(text: string): CaseResult[] {
  const cases = parseScript(text)
  const run = runnerFor(kindOfScript(cases))
  return cases.map((test) => {
    const actual = outputOf(run, test)
    return { test, actual, passed: actual === test.expected }
  })
}

function outputOf(run: (test: ScriptCase) => string, test: ScriptCase): string {
  try {
    return run(test)
  } catch (error) {
    if (error instanceof CommandError) return `${error.message}\n`
    return `panic: ${errorText(error)}\n`
  }
}

function runnerFor(kind: ScriptKind): (test: ScriptCase) => string {
  switch (kind) {
    case 'quorum':
      return runQuorumCase
    case 'confchange': {
      const script = new ConfChangeScript()
      return (test) => script.run(test)
    }
    case 'interaction': {
      const script = new InteractionScript()
      return (test) => script.run(test)
    }
    default:
      return kind satisfies never
  }
}
