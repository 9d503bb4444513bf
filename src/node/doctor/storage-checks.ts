/**
 * Can the disk keep a promise? Room, kind of file system, and how long a durable write takes: every
 * change of the swarm waits for one on most managers.
 */
import { constants } from 'node:fs'
import { open, rm, statfs } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Clock } from '../../base/clock.ts'
import { fail, pass, warn } from './finding.ts'
import type { Check, Finding } from './finding.ts'

/** Durable writes that are timed, and their size: a page of the log. */
const SYNCS = 32
const SYNC_BYTES = 4_096

/**
 * Median milliseconds of a durable write from which one is warned: elections need several in time.
 */
const SYNC_SLOW_MS = 30

/** … and from which Raft's timers (election 1 s) no longer hold. */
const SYNC_HOPELESS_MS = 500

/** Free bytes below which a daemon is in danger, and below which one is warned. */
const FREE_BYTES_MIN = 64 * 1024 ** 2
const FREE_BYTES_LOW = 1024 ** 3

/** File systems in memory, by the number of statfs(2). */
const MEMORY_FILE_SYSTEMS: ReadonlyMap<number, string> = new Map([
  [0x01021994, 'tmpfs'],
  [0x858458f6, 'ramfs'],
])

/** Checks of a data directory, which need not be there yet. */
export function storageChecks(
  components: { readonly clock: Clock },
  options: { readonly dataDirectory: string },
): readonly Check[] {
  const { dataDirectory } = options
  return [
    { name: 'data directory', run: () => checkRoom(dataDirectory) },
    { name: 'disk latency', run: () => checkLatency(components.clock, dataDirectory) },
  ]
}

async function checkRoom(directory: string): Promise<Finding> {
  const check = 'data directory'
  const place = await existing(directory)
  const { bavail, bsize, type } = await statfs(place)
  const memory = MEMORY_FILE_SYSTEMS.get(type)
  if (memory !== undefined) {
    const message = `${directory}: is on ${memory}, gone after a power cut`
    return fail(check, message, 'put it on a disk: skein daemon --data-dir DIRECTORY')
  }
  const free = bavail * bsize
  const message = `${directory}: ${mebibytes(free)} free`
  if (free < FREE_BYTES_MIN)
    return fail(check, message, 'free space; a full node stops taking part')
  if (free < FREE_BYTES_LOW) return warn(check, message, 'leave 1 GiB for images and the log')
  return pass(check, message)
}

async function checkLatency(clock: Clock, directory: string): Promise<Finding> {
  const check = 'disk latency'
  const place = await existing(directory)
  const times = await syncTimes(clock, place)
  const median = times[Math.floor(times.length / 2)] ?? 0
  const worst = times.at(-1) ?? 0
  const figures = `median ${median.toFixed(1)} ms, worst ${worst.toFixed(1)} ms`
  const message = `a durable write of 4 KiB takes ${figures} (${SYNCS} tried)`
  const advice = 'use a disk with a faster flush, or keep this node a worker'
  if (median >= SYNC_HOPELESS_MS) return fail(check, message, advice)
  return median >= SYNC_SLOW_MS ? warn(check, message, advice) : pass(check, message)
}

/** Milliseconds, shortest first. */
async function syncTimes(clock: Clock, directory: string): Promise<number[]> {
  const path = join(directory, `.skein-doctor-${process.pid}`)
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL
  const file = await open(path, flags, 0o600)
  try {
    const page = Buffer.alloc(SYNC_BYTES)
    const times: number[] = []
    for (let i = 0; i < SYNCS; i += 1) {
      const startMs = clock.monotonicMs()
      await file.write(page, 0, SYNC_BYTES, i * SYNC_BYTES)
      await file.datasync()
      times.push(clock.monotonicMs() - startMs)
    }
    return times.toSorted((a, b) => a - b)
  } finally {
    await file.close()
    await rm(path, { force: true })
  }
}

/** The directory, or the nearest above it that is there. */
async function existing(directory: string): Promise<string> {
  for (let place = directory; ; place = dirname(place)) {
    try {
      await statfs(place)
      return place
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || place === dirname(place))
        throw error
    }
  }
}

function mebibytes(bytes: number): string {
  const text = Math.round(bytes / 1024 ** 2).toLocaleString('en')
  return `${text} MiB`
}
