/**
 * Which process we mean. A pid alone is not enough: after a crash or reboot the number may belong
 * to a stranger. A mark is pid, start time in the kernel's ticks, and the boot it belongs to; a
 * process is ours only when all three agree.
 * Source: proc(5), field 22 of `/proc/<pid>/stat`; reference runtime §1.2.
 */
import { existsSync, readFileSync } from 'node:fs'
import { hasErrno } from './json-file.ts'

/** One process, unmistakably. */
export interface ProcessMark {
  readonly pid: number
  /** Clock ticks after boot, as text: it may exceed 2^53 in theory and is only compared. */
  readonly startTime: string
  readonly bootId: string
}

const BOOT_ID_FILE = '/proc/sys/kernel/random/boot_id'
/**
 * Index of `starttime` among the fields after the command name (field 22; the state is field 3).
 */
const START_TIME_INDEX = 19

/** Marks the process that has `pid` now; undefined when there is none, or only its zombie. */
export function markProcess(pid: number): ProcessMark | undefined {
  const startTime = startTimeOf(pid)
  return startTime === undefined ? undefined : { pid, startTime, bootId: bootId() }
}

/** Whether the marked process still lives. */
export function isAlive(mark: ProcessMark): boolean {
  return mark.bootId === bootId() && startTimeOf(mark.pid) === mark.startTime
}

/** Sends a signal if the marked process still lives. Returns false when it does not. */
export function signalProcess(mark: ProcessMark, signalNumber: number): boolean {
  if (!isAlive(mark)) return false
  return kill(mark.pid, signalNumber)
}

/**
 * Kills what is left of the process group that a marked, ended process led. The kernel gives the
 * number to nobody else while the group has members, so when no process has it, its group is ours
 * or empty.
 */
export function killOrphans(mark: ProcessMark): void {
  const SIGKILL = 9
  if (mark.bootId !== bootId() || existsSync(`/proc/${mark.pid}`)) return
  kill(-mark.pid, SIGKILL)
}

/**
 * Kills a process that is known to live, and the group that it may lead. The number must be held
 * by that process: by its being our child, or by its parent that has not ended.
 */
export function killGroup(pid: number): void {
  const SIGKILL = 9
  kill(-pid, SIGKILL)
  kill(pid, SIGKILL)
}

/** Reads a mark that was written as JSON. */
export function decodeProcessMark(value: unknown): ProcessMark | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  if (!('pid' in value) || !('startTime' in value) || !('bootId' in value)) return undefined
  const { pid, startTime, bootId: boot } = value
  if (typeof pid !== 'number' || typeof startTime !== 'string' || typeof boot !== 'string') {
    return undefined
  }
  return { pid, startTime, bootId: boot }
}

function kill(pid: number, signalNumber: number): boolean {
  try {
    process.kill(pid, signalNumber)
    return true
  } catch (error) {
    if (hasErrno(error, 'ESRCH')) return false
    throw error
  }
}

function startTimeOf(pid: number): string | undefined {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ESRCH')) return undefined
    throw error
  }
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[START_TIME_INDEX]
}

function bootId(): string {
  return readFileSync(BOOT_ID_FILE, 'latin1').trim()
}
