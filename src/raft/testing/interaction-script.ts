/** Interaction scripts. */
import type { ScriptCase } from './script.ts'

export class InteractionScript {
  run(test: ScriptCase): string {
    return `unknown command: ${test.command}\n`
  }
}
