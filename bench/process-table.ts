/** What `/proc` says: processes of a peer, their memory, mounts below a directory. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, readdirSync, rmdirSync } from 'node:fs'
import { basename } from 'node:path'

const CGROUPS = '/sys/fs/cgroup'

/** A process of a peer. */
export interface PeerProcess {
  readonly pid: number
  /** Base name of the program. */
  readonly program: string
}

/** Memory of some processes, KiB. */
export interface Memory {
  readonly rssKiB: number
  readonly pssKiB: number
}

/** Processes whose command line names `directory`: a peer's own, not its containers' processes. */
export function processesOf(directory: string): PeerProcess[] {
  const found: PeerProcess[] = []
  for (const name of readdirSync('/proc')) {
    const pid = Number(name)
    if (!Number.isInteger(pid) || pid === process.pid) continue
    const words = (readProc(`/proc/${name}/cmdline`) ?? '').split('\0')
    if (!words.some((word) => word.includes(directory))) continue
    found.push({ pid, program: basename(words[0] ?? '') })
  }
  return found
}

/** RSS and PSS of a process; undefined when it is gone. */
export function memoryOf(pid: number): Memory | undefined {
  const text = readProc(`/proc/${pid}/smaps_rollup`)
  if (text === undefined || text === '') return undefined
  const field = (name: string): number =>
    Number(new RegExp(`^${name}: +(\\d+) kB`, 'm').exec(text)?.[1] ?? 0)
  return { rssKiB: field('Rss'), pssKiB: field('Pss') }
}

/** Whether the process runs (a zombie does not). */
export function isAlive(pid: number): boolean {
  const stat = readProc(`/proc/${pid}/stat`)
  return stat !== undefined && !/\) Z /.test(stat)
}

/** Unmounts everything below `directory`, deepest first. */
export function unmountBelow(directory: string): void {
  const points = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((point) => point.startsWith(`${directory}/`))
    .toSorted((a, b) => b.length - a.length)
  for (const point of points) execFileSync('umount', ['--lazy', point])
}

/** Removes the (empty) cgroup `name` from every hierarchy of the machine, v1 and v2. */
export function removeCgroups(name: string): void {
  const hierarchies = readdirSync(CGROUPS).map((child) => `${CGROUPS}/${child}`)
  for (const path of [CGROUPS, ...hierarchies].map((root) => `${root}/${name}`)) {
    if (existsSync(path)) rmdirSync(path)
  }
}

/** A file of `/proc`; undefined when the process is gone. */
function readProc(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    const gone = ['ENOENT', 'ESRCH']
    if (error instanceof Error && 'code' in error && gone.includes(String(error.code)))
      return undefined
    throw error
  }
}

/** Clock ticks of `/proc/PID/stat` per second; Linux has fixed them at 100 for user space. */
const TICKS_PER_SECOND = 100

/** CPU seconds that a process has used; undefined when it is gone. */
export function cpuSecondsOf(pid: number): number | undefined {
  const stat = readProc(`/proc/${pid}/stat`)
  if (stat === undefined) return undefined
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}
