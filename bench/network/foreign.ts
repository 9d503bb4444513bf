/** How much of the machine others used meanwhile: `/proc` of every process that is not ours. */
import { readFileSync, readdirSync } from 'node:fs'

/** Clock ticks of `/proc/PID/stat` a second. */
const TICKS_PER_SECOND = 100

/** Processor time of all others so far, and when it was read. */
export interface ForeignReading {
  readonly ticks: number
  readonly atMs: number
}

interface ProcessTicks {
  readonly pid: number
  readonly parent: number
  /** Own and of children that it has waited for. */
  readonly ticks: number
}

/** Reads the time of every process but this one, and those that it started. */
export function readForeign(): ForeignReading {
  const processes = readdirSync('/proc').flatMap((name) => ticksOf(name))
  const parents = new Map(processes.map(({ pid, parent }) => [pid, parent]))
  const isOurs = (pid: number | undefined): boolean =>
    pid !== undefined && pid !== 0 && (pid === process.pid || isOurs(parents.get(pid)))
  const foreign = processes.filter(({ pid }) => !isOurs(pid))
  return {
    ticks: foreign.reduce((sum, { ticks }) => sum + ticks, 0),
    atMs: performance.now(),
  }
}

/** Cores that others used between two readings. */
export function foreignCores(before: ForeignReading, after: ForeignReading): number {
  const seconds = (after.atMs - before.atMs) / 1_000
  return Math.max(0, (after.ticks - before.ticks) / TICKS_PER_SECOND / seconds)
}

/** Processor time of one process so far. */
export function cpuMsOf(pid: number): number {
  const ticks = ticksOf(String(pid)).reduce((sum, own) => sum + own.ticks, 0)
  return (ticks * 1_000) / TICKS_PER_SECOND
}

function ticksOf(name: string): ProcessTicks[] {
  const pid = Number(name)
  if (!Number.isInteger(pid)) return []
  let text: string
  try {
    text = readFileSync(`/proc/${name}/stat`, 'utf8')
  } catch {
    // It ended while we looked.
    return []
  }
  // The name, in parentheses, may hold anything; fields are counted from behind it.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const ticks = [11, 12, 13, 14].reduce((sum, index) => sum + Number(fields[index]), 0)
  return [{ pid, parent: Number(fields[1]), ticks }]
}
