/**
 * What processes write to files, as the kernel sees it: strace (attached, so nothing has to be built
 * in) counts every call that changes a file below a directory, `/proc/PID/io` the bytes that went
 * to a disk's cache. io_uring would pass strace by; libuv does not use it for files, and a call that
 * would is counted too.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/** Calls that make or change files, or bring changes to the disk. */
const CALLS = [
  ...['write', 'writev', 'pwrite64', 'pwritev', 'pwritev2', 'copy_file_range', 'sendfile'],
  ...['fsync', 'fdatasync', 'sync', 'syncfs', 'sync_file_range', 'msync', 'io_uring_enter'],
  ...['truncate', 'ftruncate', 'fallocate', 'link', 'linkat', 'symlink', 'symlinkat'],
  ...['rename', 'renameat', 'renameat2', 'unlink', 'unlinkat', 'mkdir', 'mkdirat', 'rmdir'],
  ...['open', 'openat', 'creat'],
]
const OPENS = /^(?:open|openat)\(/
const MAKES = /O_CREAT|O_TRUNC/
/** Time for strace to attach to all threads. */
const ATTACH_MS = 2000
/** Different writes that are listed. */
const LISTED_MAX = 12

/** What some processes did to files meanwhile. */
export interface FileWrites {
  /** Calls that changed files below the directory. */
  readonly calls: number
  /** Of these, the ones that waited for the disk. */
  readonly syncs: number
  /** Bytes for block devices, all processes, anywhere. */
  readonly diskBytes: number
  /** Most frequent calls with their files. */
  readonly details: readonly string[]
}

/** Watches processes until `end`. */
export class FileWatch {
  readonly #pids: readonly number[]
  readonly #directory: string
  readonly #output: string
  readonly #strace: ChildProcess
  readonly #bytesBefore: number

  /** `output` is where strace writes; outside `directory`. @throws when strace cannot attach */
  static async begin(
    pids: readonly number[],
    { directory, output }: { readonly directory: string; readonly output: string },
  ): Promise<FileWatch> {
    const words = ['-f', '-qq', '-y', '-s', '0', '-e', 'signal=none', '-o', output]
    words.push('-e', `trace=${CALLS.join()}`, ...pids.flatMap((pid) => ['-p', String(pid)]))
    const strace = spawn('strace', words, { stdio: ['ignore', 'ignore', 'inherit'] })
    await once(strace, 'spawn')
    await sleep(ATTACH_MS)
    if (strace.exitCode !== null) throw new Error('strace cannot attach')
    return new FileWatch(pids, { directory, output, strace })
  }

  private constructor(
    pids: readonly number[],
    parts: { directory: string; output: string; strace: ChildProcess },
  ) {
    this.#pids = pids
    this.#directory = parts.directory
    this.#output = parts.output
    this.#strace = parts.strace
    this.#bytesBefore = diskBytes(pids)
  }

  async end(): Promise<FileWrites> {
    const bytes = diskBytes(this.#pids) - this.#bytesBefore
    if (this.#strace.exitCode !== null) throw new Error('strace ended before its time')
    const ended = once(this.#strace, 'exit')
    this.#strace.kill('SIGINT')
    await ended
    const calls = readFileSync(this.#output, 'utf8')
      .split('\n')
      .flatMap((line) => this.#call(line))
    const counts = new Map<string, number>()
    for (const call of calls) counts.set(call, (counts.get(call) ?? 0) + 1)
    const listed = [...counts].toSorted((a, b) => b[1] - a[1]).slice(0, LISTED_MAX)
    return {
      calls: calls.length,
      syncs: calls.filter((call) => /^(?:fsync|fdatasync|sync)/.test(call)).length,
      diskBytes: bytes,
      details: listed.map(([call, count]) => `${count} × ${call}`),
    }
  }

  /** The call of a line with its file, when it is one that counts. */
  #call(line: string): readonly string[] {
    const text = line.replace(/^\d+ +/, '')
    const name = /^(\w+)\(/.exec(text)?.[1]
    if (name === undefined || (OPENS.test(text) && !MAKES.test(text))) return []
    if (name === 'io_uring_enter' || name === 'sync') return [name]
    const start = text.indexOf(this.#directory)
    if (start === -1) return []
    return [`${name} ${text.slice(start + this.#directory.length).replace(/[>"].*$/, '')}`]
  }
}

/** Bytes that processes have sent towards block devices. */
function diskBytes(pids: readonly number[]): number {
  const each = pids.map((pid) => {
    const text = readFileSync(`/proc/${pid}/io`, 'utf8')
    return Number(/^write_bytes: (\d+)/m.exec(text)?.[1] ?? Number.NaN)
  })
  return each.reduce((sum, bytes) => sum + bytes, 0)
}
