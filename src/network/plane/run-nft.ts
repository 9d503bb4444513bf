/**
 * Runs `nft` with a script on its standard input: one transaction. Used once per start, for rules;
 * elements go by netlink. A PATH of its own: npm puts another tool named `nft` first.
 */
import { spawn } from 'node:child_process'
import { SwarmError } from '../../base/errors.ts'

const TOOL_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
/** Longest run, milliseconds; then SIGKILL. */
const NFT_TIMEOUT_MS = 20_000
/** Most bytes kept of what it says. */
const OUTPUT_BYTES_MAX = 16 * 1024

/** Where and how to run it. */
export interface NftOptions {
  /** Path of a network namespace; without one this process's. */
  readonly netns?: string
  /** Ask the kernel whether it would take the script, and change nothing. */
  readonly checkOnly?: boolean
}

/** Runs a script. @throws UNAVAILABLE when there is no `nft`, RUNTIME_FAILED with its words */
export async function runNft(script: string, options: NftOptions = {}): Promise<void> {
  const nft = ['nft', ...(options.checkOnly === true ? ['--check'] : []), '-f', '-']
  const argv = options.netns === undefined ? nft : ['nsenter', `--net=${options.netns}`, ...nft]
  const { code, words } = await runToEnd(argv, script)
  if (code === 0) return
  if (code === 127) throw notInstalled()
  const how = code === undefined ? 'was killed' : `exit code ${code}`
  throw new SwarmError('RUNTIME_FAILED', `nft: ${words === '' ? how : words}`)
}

function notInstalled(cause?: unknown): SwarmError {
  const message = 'nft: cannot run it; install the package nftables'
  return new SwarmError('UNAVAILABLE', message, cause === undefined ? {} : { cause })
}

function runToEnd(
  argv: readonly string[],
  input: string,
): Promise<{ readonly code: number | undefined; readonly words: string }> {
  const [file = '', ...args] = argv
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      stdio: ['pipe', 'ignore', 'pipe'],
      env: { PATH: TOOL_PATH, LC_ALL: 'C' },
      timeout: NFT_TIMEOUT_MS,
      killSignal: 'SIGKILL',
    })
    let words = ''
    child.stderr.setEncoding('utf8')
    child.stderr.on('data', (chunk: string) => {
      if (words.length < OUTPUT_BYTES_MAX) words += chunk
    })
    child.once('error', (cause) => reject(notInstalled(cause)))
    child.once('close', (code) => resolve({ code: code ?? undefined, words: words.trim() }))
    // A tool that ends without reading its input is judged by its exit code.
    child.stdin.on('error', () => {})
    child.stdin.end(input)
  })
}
