/** The host around the daemon: rights, clock, limits, memory, control groups, programs. */
import { access, readFile, readdir, stat } from 'node:fs/promises'
import { freemem, release, totalmem } from 'node:os'
import { delimiter, join } from 'node:path'
import type { Clock } from '../../base/clock.ts'
import { pass, warn } from './finding.ts'
import type { Check, Finding } from './finding.ts'

/** No build of Skein is older: a wall clock before this is wrong. */
const EARLIEST_MS = Date.UTC(2026, 0, 1)

/** How far files of the system may lie in the future before the clock counts as wrong. */
const FUTURE_MS = 24 * 60 * 60 * 1_000

/** Free memory below which a daemon with a few tasks is in danger, bytes. */
const MEMORY_BYTES_LOW = 256 * 1024 ** 2

/** Open files that a node with many connections needs. */
const OPEN_FILES_LOW = 4_096

/** Runtimes and monitors in the order of preference. */
const RUNTIMES = ['crun', 'runc'] as const

/** Where the system's parts are; a test gives other places. */
export interface HostPlaces {
  readonly proc: string
  readonly sys: string
  readonly etc: string
  readonly path: string
}

/** The usual places. */
export const HOST_PLACES: HostPlaces = {
  proc: '/proc',
  sys: '/sys',
  etc: '/etc',
  path: process.env['PATH'] ?? '',
}

/** Checks of the host. */
export function hostChecks(
  components: { readonly clock: Clock },
  places: HostPlaces = HOST_PLACES,
): readonly Check[] {
  return [
    { name: 'kernel', run: () => Promise.resolve(pass('kernel', `Linux ${release()}`)) },
    { name: 'rights', run: () => Promise.resolve(checkRights()) },
    { name: 'clock', run: () => checkClock(components.clock, places) },
    { name: 'memory', run: () => Promise.resolve(checkMemory()) },
    { name: 'open files', run: () => checkOpenFiles(places) },
    { name: 'control groups', run: () => checkCgroups(places) },
    { name: 'container runtime', run: () => checkRuntime(places) },
    { name: 'layers', run: () => checkLayers(places) },
    { name: 'name servers', run: () => checkNameServers(places) },
  ]
}

function checkRights(): Finding {
  if (process.getuid?.() === 0) return pass('rights', 'root')
  const message = 'not root: tasks run as processes, ports are balanced in userspace'
  return warn('rights', message, 'run the daemon as root for containers and kernel balancing')
}

async function checkClock(clock: Clock, places: HostPlaces): Promise<Finding> {
  const nowMs = clock.wallMs()
  const text = new Date(nowMs).toISOString()
  const advice =
    'set the clock (a battery, chrony, or systemd-timesyncd); Skein itself does not need it'
  if (nowMs < EARLIEST_MS) return warn('clock', `${text}: is in the past`, advice)
  const { mtimeMs } = await stat(places.etc)
  if (mtimeMs > nowMs + FUTURE_MS) {
    return warn('clock', `${text}: is older than files of the system`, advice)
  }
  return pass('clock', text)
}

function checkMemory(): Finding {
  const message = `${mebibytes(freemem())} of ${mebibytes(totalmem())} free`
  if (freemem() >= MEMORY_BYTES_LOW) return pass('memory', message)
  return warn('memory', message, 'a daemon takes about 120 MiB before its tasks')
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 1024 ** 2)} MiB`
}

async function checkOpenFiles(places: HostPlaces): Promise<Finding> {
  const limits = await readFile(join(places.proc, 'self/limits'), 'utf8')
  const soft = /^Max open files\s+(\S+)/m.exec(limits)?.[1] ?? ''
  const message = `at most ${soft} open files`
  const enough = soft === 'unlimited' || Number(soft) >= OPEN_FILES_LOW
  if (enough) return pass('open files', message)
  return warn('open files', message, `raise it: ulimit -n ${OPEN_FILES_LOW * 16}, or LimitNOFILE=`)
}

async function checkCgroups({ sys }: HostPlaces): Promise<Finding> {
  const check = 'control groups'
  const root = join(sys, 'fs/cgroup')
  const unified = await textOf(join(root, 'cgroup.controllers'))
  if (unified !== undefined) {
    const missing = ['cpu', 'memory', 'pids'].filter((name) => !unified.split(/\s+/).includes(name))
    if (missing.length === 0) return pass(check, 'version 2')
    const line = "cgroup_enable=memory on the kernel's line"
    const advice = `enable them; for memory on some boards: ${line}`
    return warn(check, `version 2 without ${missing.join(', ')}`, advice)
  }
  const present = (await entriesOf(root)).filter((name) => ['cpu', 'memory', 'pids'].includes(name))
  if (present.length === 3) return pass(check, 'version 1')
  const message = `none that limits ${present.length === 0 ? 'anything' : 'everything'}`
  return warn(
    check,
    message,
    'mount cgroup2 on /sys/fs/cgroup; limits of services do not hold without',
  )
}

async function checkRuntime(places: HostPlaces): Promise<Finding> {
  const check = 'container runtime'
  const found: string[] = []
  for (const name of RUNTIMES) if (await inPath(name, places)) found.push(name)
  const monitor = await inPath('conmon', places)
  const advice = 'apt install crun conmon'
  if (found.length === 0) {
    return warn(check, 'neither crun nor runc: tasks run as processes', advice)
  }
  if (monitor) return pass(check, `${found.join(', ')} with conmon`)
  return warn(check, `${found.join(', ')} without conmon: a small shell watches the tasks`, advice)
}

/** Containers share their image's layers by overlayfs. */
async function checkLayers({ proc }: HostPlaces): Promise<Finding> {
  const check = 'layers'
  const known = (await textOf(join(proc, 'filesystems'))) ?? ''
  if (/\toverlay$/m.test(known)) return pass(check, 'the kernel has overlayfs')
  const advice = 'modprobe overlay; it is loaded by itself where the kernel has it'
  return warn(check, 'overlayfs is not loaded', advice)
}

async function checkNameServers({ etc }: HostPlaces): Promise<Finding> {
  const text = (await textOf(join(etc, 'resolv.conf'))) ?? ''
  const servers = [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].map((match) => match[1])
  if (servers.length > 0) return pass('name servers', servers.join(', '))
  const message = 'none: containers find services, but nothing outside'
  return warn('name servers', message, 'name one in /etc/resolv.conf unless this site has none')
}

async function inPath(program: string, { path }: HostPlaces): Promise<boolean> {
  for (const directory of path.split(delimiter)) {
    try {
      await access(join(directory, program))
      return true
    } catch {
      // The next one may have it.
    }
  }
  return false
}

async function textOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

async function entriesOf(path: string): Promise<readonly string[]> {
  try {
    return await readdir(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
