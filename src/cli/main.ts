/**
 * `skein`: finds the command, gives it its arguments, prints what goes wrong, and sets the exit code as
 * docker does: 0, 1 for a refusal, 125 for a wrong flag.
 */
import { enableCompileCache } from 'node:module'

// Before anything else is loaded: compiled code of earlier runs is read instead of compiled again.
enableCompileCache()
const { run } = await import('./run.ts')
process.exitCode = await run(process.argv.slice(2))
