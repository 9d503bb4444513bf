/**
 * Reading a task's log files. conmon writes `<RFC 3339 with nanoseconds> <stream> <F|P> <text>`,
 * where P is a part of a longer line. The sh monitor writes raw bytes, one file a stream: such
 * lines carry the time at which the file was last written, which is honest only for the newest;
 * there is no better.
 *
 * A follower polls: inotify cannot tell a truncation (conmon's answer to `LOG_BYTES_MAX`) from a
 * write, and a poll of one `fstat` each `FOLLOW_POLL_MS` costs nothing that matters.
 */
import { open } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { delay } from '../base/clock.ts'
import type { Clock } from '../base/clock.ts'
import { hasErrno } from './json-file.ts'
import type { TaskFiles } from './task-files.ts'

/** Size at which a task's log starts anew, bytes: an endless log must not fill a flash card. */
export const LOG_BYTES_MAX = 10 * 1024 * 1024

/** Longest line given out, bytes; a longer one comes in pieces. */
export const LOG_LINE_BYTES_MAX = 64 * 1024

/** Milliseconds between looks at a followed log. */
export const FOLLOW_POLL_MS = 100

const READ_BYTES = 64 * 1024
/** Most lines that `tail` keeps in memory; more is cut to this. */
export const TAIL_LINES_MAX = 100_000

/** One line of a task's output. */
export interface LogLine {
  readonly stream: 'stdout' | 'stderr'
  /** RFC 3339 with up to nine digits of a second. */
  readonly time: string
  readonly line: string
}

/** What to read. */
export interface LogQuery {
  readonly follow?: boolean
  /** The last so many lines, of raw logs so many of each stream; undefined = all. */
  readonly tail?: number
  /** RFC 3339; only lines from then on. */
  readonly since?: string
  readonly signal?: AbortSignal
}

/** Whether a follower may stop: the task has ended and will write no more. */
export type IsFinished = () => Promise<boolean>

/**
 * The log of the task in `files`. Ends at the end of the file, or, following, when the task has
 * ended.
 * @yields lines in the order of the file; of raw logs, first all of one stream, then of the other
 */
export async function* readTaskLog(
  files: TaskFiles,
  query: LogQuery,
  components: { readonly clock: Clock; readonly isFinished: IsFinished },
): AsyncGenerator<LogLine> {
  const cursors = [
    new LogCursor(files.log, undefined),
    new LogCursor(files.rawLog('stdout'), 'stdout'),
    new LogCursor(files.rawLog('stderr'), 'stderr'),
  ]
  const since = query.since === undefined ? undefined : timeKey(query.since)
  const wanted = (line: LogLine): boolean => since === undefined || timeKey(line.time) >= since
  try {
    for (const cursor of cursors) {
      if (query.tail === undefined) yield* filter(cursor.read(), wanted)
      else yield* await lastLines(cursor, query.tail, wanted)
    }
    while (query.follow === true && query.signal?.aborted !== true) {
      const finished = await components.isFinished()
      const before = lineCount(cursors)
      for (const cursor of cursors) yield* filter(cursor.read(), wanted)
      if (lineCount(cursors) > before) continue
      if (finished || !(await pause(components.clock, query.signal))) return
    }
  } finally {
    await Promise.all(cursors.map((cursor) => cursor.close()))
  }
}

async function lastLines(
  cursor: LogCursor,
  tail: number,
  wanted: (line: LogLine) => boolean,
): Promise<LogLine[]> {
  const most = Math.min(tail, TAIL_LINES_MAX)
  const lines: LogLine[] = []
  for await (const line of cursor.read()) {
    if (!wanted(line)) continue
    lines.push(line)
    if (lines.length > 2 * most + 1) lines.splice(0, lines.length - most)
  }
  return most === 0 ? [] : lines.slice(-most)
}

function lineCount(cursors: readonly LogCursor[]): number {
  return cursors.reduce((sum, cursor) => sum + cursor.lineCount, 0)
}

/** Starts raw logs anew that have become too long; conmon does so itself. */
export async function trimRawLogs(files: TaskFiles): Promise<void> {
  for (const stream of ['stdout', 'stderr'] as const) {
    const file = await openIfThere(files.rawLog(stream), 'r+')
    if (file === undefined) continue
    // The monitor appends, so its next line stands at the new beginning.
    if ((await file.stat()).size > LOG_BYTES_MAX) await file.truncate(0)
    await file.close()
  }
}

async function* filter(
  lines: AsyncIterable<LogLine>,
  wanted: (line: LogLine) => boolean,
): AsyncGenerator<LogLine> {
  for await (const line of lines) if (wanted(line)) yield line
}

async function pause(clock: Clock, signal: AbortSignal | undefined): Promise<boolean> {
  try {
    await delay(clock, FOLLOW_POLL_MS, signal)
    return true
  } catch (error) {
    if (signal?.aborted === true) return false
    throw error
  }
}

/** Compares RFC 3339 texts in UTC whatever the number of their decimals. */
function timeKey(time: string): string {
  const match = /^(.{19})(?:\.(\d+))?/.exec(toUtc(time))
  return `${match?.[1] ?? ''}.${(match?.[2] ?? '').padEnd(9, '0')}`
}

function toUtc(time: string): string {
  if (time.endsWith('Z')) return time
  const offset = /[+-]\d\d:\d\d$/.exec(time)
  if (offset === null) return time
  const decimals = /\.(\d+)/.exec(time)?.[1] ?? ''
  const seconds = new Date(time).toISOString().slice(0, 19)
  return decimals === '' ? `${seconds}Z` : `${seconds}.${decimals}Z`
}

/** Reads one growing file, line by line, from where it stopped. */
class LogCursor {
  readonly #path: string
  /** Undefined: the file has conmon's format. */
  readonly #rawStream: 'stdout' | 'stderr' | undefined
  #file: FileHandle | undefined
  #position = 0
  #lineCount = 0
  /** Bytes of a line whose end is not there yet. */
  #rest: Buffer = Buffer.alloc(0)
  /** Text of conmon's parts (P) of a line, by stream. */
  readonly #parts = { stdout: '', stderr: '' }

  constructor(path: string, rawStream: 'stdout' | 'stderr' | undefined) {
    this.#path = path
    this.#rawStream = rawStream
  }

  /** Lines seen so far, wanted or not. */
  get lineCount(): number {
    return this.#lineCount
  }

  async *read(): AsyncGenerator<LogLine> {
    this.#file ??= await openIfThere(this.#path)
    if (this.#file === undefined) return
    const { size, mtimeMs } = await this.#file.stat()
    if (size < this.#position) this.#restart()
    const modified = new Date(mtimeMs).toISOString()
    const buffer = Buffer.alloc(READ_BYTES)
    // Up to the size at the beginning: a task that writes faster than its reader reads has an end,
    // too.
    while (this.#position < size) {
      const length = Math.min(buffer.length, size - this.#position)
      const { bytesRead } = await this.#file.read(buffer, 0, length, this.#position)
      if (bytesRead === 0) return
      this.#position += bytesRead
      yield* this.#lines(buffer.subarray(0, bytesRead), modified)
    }
  }

  async close(): Promise<void> {
    await this.#file?.close()
  }

  #restart(): void {
    this.#position = 0
    this.#rest = Buffer.alloc(0)
    this.#parts.stdout = ''
    this.#parts.stderr = ''
  }

  *#lines(chunk: Buffer, modified: string): Generator<LogLine> {
    let bytes = Buffer.concat([this.#rest, chunk])
    for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10)) {
      const line = this.#decode(bytes.toString('utf8', 0, end), modified)
      if (line !== undefined) yield line
      bytes = bytes.subarray(end + 1)
    }
    if (bytes.length > LOG_LINE_BYTES_MAX) {
      const line = this.#decode(bytes.toString('utf8'), modified)
      if (line !== undefined) yield line
      bytes = Buffer.alloc(0)
    }
    this.#rest = Buffer.from(bytes)
  }

  #decode(text: string, modified: string): LogLine | undefined {
    this.#lineCount += 1
    if (this.#rawStream !== undefined) {
      return { stream: this.#rawStream, time: modified, line: text }
    }
    const match = /^(\S+) (stdout|stderr) ([FP]) (.*)$/s.exec(text)
    // A line torn by a truncation has no head; there is nothing to say about it.
    if (match === null) return undefined
    const [, time = '', , kind, content = ''] = match
    const stream = match[2] === 'stderr' ? 'stderr' : 'stdout'
    const whole = this.#parts[stream] + content
    if (kind === 'P' && whole.length < LOG_LINE_BYTES_MAX) {
      this.#parts[stream] = whole
      return undefined
    }
    this.#parts[stream] = ''
    return { stream, time, line: whole }
  }
}

async function openIfThere(path: string, flags = 'r'): Promise<FileHandle | undefined> {
  try {
    return await open(path, flags)
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined
    throw error
  }
}
