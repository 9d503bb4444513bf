/**
 * One daemon a data directory. The lock names the process that holds the directory and when that
 * process began, so that a recycled process id after a power cut is not mistaken for a daemon. It
 * is a symbolic link that points nowhere: made in one step, whole or not at all, also on a full
 * disk.
 */
import { mkdir, readFile, readlink, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { SwarmError } from '../base/errors.ts'

const FILE = 'daemon.lock'

/** A process that holds a data directory. */
export interface LockHolder {
  readonly pid: number
  /** Field 22 of `/proc/PID/stat`: clock ticks after boot. */
  readonly startTime: string
}

/** The held lock. */
export interface DataLock {
  release(): Promise<void>
}

/** The daemon that holds `directory` now, if any. */
export async function lockHolder(directory: string): Promise<LockHolder | undefined> {
  let text: string
  try {
    text = await readlink(join(directory, FILE))
  } catch {
    return undefined
  }
  const [pid, startTime = ''] = text.split('.')
  const holder = { pid: Number(pid), startTime }
  return (await startTimeOf(holder.pid)) === startTime ? holder : undefined
}

/** Takes `directory` for this process. @throws FAILED_PRECONDITION when another daemon has it */
export async function lockDataDirectory(directory: string): Promise<DataLock> {
  await mkdir(directory, { recursive: true, mode: 0o711 })
  const holder = await lockHolder(directory)
  if (holder !== undefined) {
    const what = `data directory ${directory}: is used by process ${holder.pid}`
    throw new SwarmError('FAILED_PRECONDITION', `${what}; one daemon a directory`)
  }
  const path = join(directory, FILE)
  await rm(path, { force: true })
  await symlink(`${process.pid}.${(await startTimeOf(process.pid)) ?? ''}`, path)
  return { release: () => rm(path, { force: true }) }
}

async function startTimeOf(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
    const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    // A zombie holds nothing; who should collect it may take its time.
    return state === 'Z' ? undefined : fields[18]
  } catch {
    return undefined
  }
}
