/**
 * Runs `nft` with a script on its standard input: one transaction. Used once per start, for rules;
 * elements go by netlink. What others' rules say it is asked, too. A PATH of its own: npm puts
 * another tool named `nft` first.
 */
import { spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { SwarmError } from '../../base/errors.ts'

const TOOL_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
/**
 * Longest run, milliseconds; then SIGKILL. A host that is this slow has nftables all the same: what
 * is found at the start holds for the life of the daemon.
 */
const NFT_TIMEOUT_MS = 120_000
/** Most bytes kept of what it says. */
const OUTPUT_BYTES_MAX = 256 * 1024

/** Where and how to run it. */
export interface NftOptions {
  /** Path of a network namespace; without one this process's. */
  readonly netns?: string
  /** Ask the kernel whether it would take the script, and change nothing. */
  readonly checkOnly?: boolean
}

/** Runs a script. @throws UNAVAILABLE when there is no `nft`, RUNTIME_FAILED with its words */
export async function runNft(script: string, options: NftOptions = {}): Promise<void> {
  await runWords([...(options.checkOnly === true ? ['--check'] : []), '-f', '-'], script, options)
}

/** What a command of nft prints, cut at {@link OUTPUT_BYTES_MAX}. @throws as `runNft` */
export function readNft(
  words: readonly string[],
  options: Pick<NftOptions, 'netns'> = {},
): Promise<string> {
  return runWords(words, '', options)
}

async function runWords(
  options: readonly string[],
  script: string,
  { netns }: Pick<NftOptions, 'netns'>,
): Promise<string> {
  const nft = ['nft', ...options]
  const argv = netns === undefined ? nft : ['nsenter', `--net=${netns}`, ...nft]
  const { code, words, text } = await runToEnd(argv, script)
  if (code === 0) return text
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
): Promise<{ readonly code: number | undefined; readonly words: string; readonly text: string }> {
  const [file = '', ...args] = argv
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { PATH: TOOL_PATH, LC_ALL: 'C' },
      timeout: NFT_TIMEOUT_MS,
      killSignal: 'SIGKILL',
    })
    const words = kept(child.stderr)
    const text = kept(child.stdout)
    child.once('error', (cause) => reject(notInstalled(cause)))
    child.once('close', (code) =>
      resolve({ code: code ?? undefined, words: words().trim(), text: text() }),
    )
    // A tool that ends without reading its input is judged by its exit code.
    child.stdin.on('error', () => {})
    child.stdin.end(input)
  })
}

/** Reads a stream to its end; gives what was kept of it. */
function kept(stream: Readable): () => string {
  let text = ''
  stream.setEncoding('utf8')
  stream.on('data', (chunk: string) => {
    if (text.length < OUTPUT_BYTES_MAX) text += chunk
  })
  return () => text
}
