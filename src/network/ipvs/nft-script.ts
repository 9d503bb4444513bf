/**
 * Runs a script of nft in one transaction, in any network namespace. Used at start and for repairs
 * alone: the program reads the whole ruleset each time.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { SwarmError, errorText } from '../../base/errors.ts'

/** npm puts `node_modules/.bin` first in the path, and a package has another `nft` there. */
const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
/** nft reads and writes in less than a second; this is for a machine that is stuck. */
const TIMEOUT_MS = 20_000

/**
 * Does everything in the script or nothing. @throws UNIMPLEMENTED when there is no nft,
 * FAILED_PRECONDITION when it refuses
 */
export async function runNft(script: string, netns?: string): Promise<void> {
  const nft = ['nft', '-f', '-']
  const words = netns === undefined ? nft : ['nsenter', `--net=${netns}`, ...nft]
  const child = spawn('env', words, {
    env: { PATH: SYSTEM_PATH },
    stdio: ['pipe', 'ignore', 'pipe'],
    timeout: TIMEOUT_MS,
  })
  // A program that ends early breaks the pipe; its own words say why.
  child.stdin.on('error', () => {})
  child.stdin.end(script)
  try {
    const [complaint, [code]] = await Promise.all([text(child.stderr), once(child, 'close')])
    if (code === 0) return
    const message = `nft refuses the rules: ${complaint.trim()}`
    throw new SwarmError('FAILED_PRECONDITION', message)
  } catch (error) {
    if (error instanceof SwarmError) throw error
    const message = `nft cannot be started: ${errorText(error)}`
    throw new SwarmError('UNIMPLEMENTED', message, { cause: error })
  }
}
