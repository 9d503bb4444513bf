/**
 * `skein`: finds the command, gives it its arguments, prints what goes wrong, and sets the exit code as
 * docker does: 0, 1 for a refusal, 125 for a wrong flag.
 */
import { enableCompileCache } from 'node:module'

// Before anything else is loaded: compiled code of earlier runs is read instead of compiled again. It is
// kept with the user's own caches: a folder that others may write to would be a way into this process.
const { XDG_CACHE_HOME: caches, HOME: home, NODE_COMPILE_CACHE: chosen } = process.env
const cacheDirectory = chosen ?? (caches || (home ? `${home}/.cache` : ''))
if (cacheDirectory !== '') enableCompileCache(chosen ?? `${cacheDirectory}/skein/compiled`)
const { run } = await import('./run.ts')
process.exitCode = await run(process.argv.slice(2))
