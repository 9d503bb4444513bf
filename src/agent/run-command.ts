/**
 * Runs a host tool (`ip`, `nft`, `crun` …) to its end and gives what it said. Arguments are never
 * interpreted by a shell. Output is bounded: a tool that floods is cut, not trusted.
 */
import { spawn } from 'node:child_process'
import type { SpawnOptions } from 'node:child_process'
import { SwarmError } from '../base/errors.ts'

/**
 * Longest run of a host tool, milliseconds; then SIGKILL. Everything we call answers in well under
 * 1 s.
 */
export const COMMAND_TIMEOUT_MS = 20_000

/** Most bytes kept of each output stream; the rest is dropped. */
export const COMMAND_OUTPUT_BYTES_MAX = 256 * 1024

/** Where tools are looked for when our own environment names no PATH. */
export const TOOL_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** What a tool said and how it ended. */
export interface CommandResult {
  /** Undefined: ended by a signal. */
  readonly code: number | undefined
  readonly stdout: string
  readonly stderr: string
}

/** How to run a tool. */
export interface CommandOptions {
  readonly input?: string
  readonly cwd?: string
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

/** The environment that tools get: a path and nothing of ours. */
export function toolEnvironment(): Record<string, string> {
  return { PATH: TOOL_PATH, LC_ALL: 'C' }
}

/**
 * Runs `argv` and resolves however it ends. @throws UNAVAILABLE when it cannot be started, ABORTED
 */
export function runCommand(
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const [file = '', ...args] = argv
  const spawnOptions: SpawnOptions = {
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    env: toolEnvironment(),
    timeout: options.timeoutMs ?? COMMAND_TIMEOUT_MS,
    killSignal: 'SIGKILL',
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  }
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, spawnOptions)
    const stdout = collect(child.stdout)
    const stderr = collect(child.stderr)
    child.once('error', (cause) => {
      const code = options.signal?.aborted === true ? 'ABORTED' : 'UNAVAILABLE'
      reject(new SwarmError(code, `${file}: cannot run it`, { cause }))
    })
    child.once('close', (code) => {
      resolve({ code: code ?? undefined, stdout: stdout(), stderr: stderr() })
    })
    // A tool that ends without reading its input is judged by its exit code, not by the broken
    // pipe.
    child.stdin?.on('error', () => {})
    child.stdin?.end(options.input)
  })
}

/**
 * Runs `argv`, which must succeed; gives its standard output. @throws RUNTIME_FAILED with its words
 */
export async function runTool(
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const result = await runCommand(argv, options)
  if (result.code === 0) return result.stdout
  const words = (result.stderr.trim() || result.stdout.trim()).slice(0, 2000)
  const how = result.code === undefined ? 'was killed' : `exit code ${result.code}`
  throw new SwarmError('RUNTIME_FAILED', `${argv[0]}: ${words === '' ? how : words}`)
}

function collect(stream: NodeJS.ReadableStream | null): () => string {
  const chunks: Buffer[] = []
  let size = 0
  stream?.on('data', (chunk: Buffer) => {
    if (size < COMMAND_OUTPUT_BYTES_MAX) chunks.push(chunk)
    size += chunk.length
  })
  return () => Buffer.concat(chunks).subarray(0, COMMAND_OUTPUT_BYTES_MAX).toString('utf8')
}
