/**
 * What a guest is told and what it gives back, and the folder through which host and guest talk:
 * `command`, `modules`, `writable` and the scripts go in, `status` comes out.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Kernels to choose from: `uml` is quick and has IPVS, `qemu` has nftables too. */
export type GuestTier = 'uml' | 'qemu'

/** A command to run in a throw-away kernel. */
export interface GuestRun {
  readonly tier: GuestTier
  readonly command: readonly string[]
  /** Default this process's. */
  readonly cwd?: string
  /** Default {@link TIMEOUT_MS}. */
  readonly timeoutMs?: number
  /** Default {@link MEMORY_MIB}. */
  readonly memoryMib?: number
  /** Loaded before the command; what the kernel can ask for itself need not be named. */
  readonly modules?: readonly string[]
  /** Folders of the host that the guest really writes. All others it changes for itself alone. */
  readonly writable?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
}

/** How a command ended. */
export interface GuestResult {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

/** Under load a guest runs ten times slower than it can. */
export const TIMEOUT_MS = 300_000
export const MEMORY_MIB = 1_024

/** The guest did not come to an end by itself: it hung, panicked or never started. */
export class GuestError extends Error {
  override readonly name = 'GuestError'
}

/** The folder between host and guest; removed on disposal. */
export class ControlFolder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'skein-guest-'))

  constructor(run: GuestRun, scripts: readonly string[]) {
    this.write('command', commandScript(run))
    this.write('modules', lines(run.modules ?? []))
    this.write('writable', lines(run.writable ?? []))
    for (const script of scripts) {
      // Written, not copied: the kernel starts it whatever mode it has in the checkout.
      this.write(script, readFileSync(join(import.meta.dirname, script), 'utf8'))
    }
  }

  file(name: string): string {
    return join(this.path, name)
  }

  write(name: string, text: string): void {
    writeFileSync(this.file(name), text, { mode: 0o755 })
  }

  /** The text of a file; empty when there is none. */
  read(name: string): string {
    return existsSync(this.file(name)) ? readFileSync(this.file(name), 'utf8') : ''
  }

  /** The command's exit status; undefined when the guest did not get so far. */
  get status(): number | undefined {
    const text = this.read('status').trim()
    return text === '' ? undefined : Number(text)
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true })
  }
}

function lines(list: readonly string[]): string {
  return list.map((line) => `${line}\n`).join('')
}

function commandScript(run: GuestRun): string {
  const { cwd = process.cwd(), environment = {} } = run
  const exports = Object.entries(environment).map(
    ([name, value]) => `export ${name}=${quoted(value)}`,
  )
  const command = run.command.map((word) => quoted(word)).join(' ')
  return lines([`cd ${quoted(cwd)} || exit 125`, ...exports, `exec ${command}`])
}

/** A word of the shell. */
function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`
}
