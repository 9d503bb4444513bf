/**
 * `skein`: finds the command, gives it its arguments, prints what goes wrong, and sets the exit
 * code as docker does: 0, 1 for a refusal, 125 for a wrong flag.
 *
 * Compiled code of earlier runs is read instead of compiled again. The shim `./skein` turns that on
 * before this file is read (else the compiler is loaded for this file alone, 40 ms); here it is
 * turned on for those who run this file directly. It is kept with the user's own caches: a folder
 * that others may write to would be a way into this process.
 */
import { enableCompileCache } from 'node:module'

const { XDG_CACHE_HOME: caches = '', HOME: home = '', NODE_COMPILE_CACHE: chosen } = process.env
const cacheDirectory = caches === '' && home !== '' ? `${home}/.cache` : caches
// Not for the programs that we start.
if (chosen !== undefined) delete process.env['NODE_COMPILE_CACHE']
else if (cacheDirectory !== '') enableCompileCache(`${cacheDirectory}/skein/compiled`)
const { run } = await import('./run.ts')
process.exitCode = await run(process.argv.slice(2))
