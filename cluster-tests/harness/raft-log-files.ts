/** The files of a stopped daemon's Raft log, for tests that damage them. */
import { closeSync, openSync, readSync, readdirSync, statSync } from 'node:fs'
import { truncateSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { Daemon } from './daemon.ts'

/** LevelDB's newest write-ahead log, where the last writes are. */
export function newestLogFile(daemon: Daemon): string {
  const directory = join(daemon.dataDirectory, 'swarm', 'raft', 'level')
  const newest = readdirSync(directory)
    .filter((name) => name.endsWith('.log'))
    .toSorted()
    .at(-1)
  if (newest === undefined) throw new Error(`${directory}: has no log`)
  return join(directory, newest)
}

/** Takes the last `bytes` away, as a power cut in the middle of a write does. */
export function tear(path: string, bytes: number): void {
  truncateSync(path, statSync(path).size - bytes)
}

/** Inverts `length` bytes at `fraction` of the file's length. */
export function damage(path: string, fraction: number, length = 16): void {
  const file = openSync(path, 'r+')
  try {
    const position = Math.floor((statSync(path).size - length) * fraction)
    const bytes = Buffer.alloc(length)
    readSync(file, bytes, 0, length, position)
    writeSync(
      file,
      bytes.map((byte) => byte ^ 0xff),
      0,
      length,
      position,
    )
  } finally {
    closeSync(file)
  }
}
