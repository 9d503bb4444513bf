/**
 * What this process may hand on: its capabilities and resource limits. A runtime that is asked for
 * more fails outright ("Operation not permitted" on hosts whose root lacks CAP_SYS_RESOURCE), so
 * every wish is clamped to this. Source: reference runtime §1.1; proc(5).
 */
import { readFileSync } from 'node:fs'
import { ALL_CAPABILITIES, decodeCapabilityMask } from './capabilities.ts'

/** One resource limit in the OCI form. */
export interface ResourceLimit {
  readonly type: string
  readonly soft: number
  readonly hard: number
}

/** Our own capabilities and limits. */
export interface HostLimits {
  readonly capabilities: ReadonlySet<string>
  /** Hard limit by OCI name; Infinity = unlimited. */
  readonly hard: ReadonlyMap<string, number>
}

/** Files that a container may open unless its spec says otherwise: Docker's value. */
export const NOFILE_DEFAULT = 1_048_576

/** `rlim_t` for "unlimited", as the kernel has it; JSON numbers cannot say 2^64-1 exactly. */
const UNLIMITED = 2 ** 63

const ROW_NAMES: Readonly<Record<string, string>> = {
  'Max cpu time': 'RLIMIT_CPU',
  'Max file size': 'RLIMIT_FSIZE',
  'Max data size': 'RLIMIT_DATA',
  'Max stack size': 'RLIMIT_STACK',
  'Max core file size': 'RLIMIT_CORE',
  'Max resident set': 'RLIMIT_RSS',
  'Max processes': 'RLIMIT_NPROC',
  'Max open files': 'RLIMIT_NOFILE',
  'Max locked memory': 'RLIMIT_MEMLOCK',
  'Max address space': 'RLIMIT_AS',
  'Max file locks': 'RLIMIT_LOCKS',
  'Max pending signals': 'RLIMIT_SIGPENDING',
  'Max msgqueue size': 'RLIMIT_MSGQUEUE',
  'Max nice priority': 'RLIMIT_NICE',
  'Max realtime priority': 'RLIMIT_RTPRIO',
  'Max realtime timeout': 'RLIMIT_RTTIME',
}

/** Reads what this process has. */
export function readHostLimits(): HostLimits {
  const status = readFileSync('/proc/self/status', 'utf8')
  const mask = /^CapBnd:\s*([0-9a-f]+)$/m.exec(status)?.[1]
  return {
    capabilities: mask === undefined ? new Set(ALL_CAPABILITIES) : decodeCapabilityMask(mask),
    hard: parseLimits(readFileSync('/proc/self/limits', 'utf8')),
  }
}

/** Hard limits from the text of `/proc/<pid>/limits`. */
export function parseLimits(text: string): ReadonlyMap<string, number> {
  const limits = new Map<string, number>()
  for (const line of text.split('\n')) {
    const match = /^(Max [a-z ]+?)\s{2,}(\S+)\s+(\S+)/.exec(line)
    const name = ROW_NAMES[match?.[1] ?? '']
    if (match === null || name === undefined) continue
    limits.set(name, match[3] === 'unlimited' ? Infinity : Number(match[3]))
  }
  return limits
}

/** The container's resource limits: wishes, or Docker's default, no higher than our own. */
export function clampLimits(
  wishes: readonly { readonly Name: string; readonly Soft: number; readonly Hard: number }[],
  host: HostLimits,
): ResourceLimit[] {
  const byType = new Map<string, { soft: number; hard: number }>([
    ['RLIMIT_NOFILE', { soft: NOFILE_DEFAULT, hard: NOFILE_DEFAULT }],
  ])
  for (const wish of wishes) {
    const soft = wish.Soft < 0 ? UNLIMITED : wish.Soft
    const hard = wish.Hard < 0 ? UNLIMITED : wish.Hard
    byType.set(`RLIMIT_${wish.Name.toUpperCase()}`, { soft, hard })
  }
  return [...byType].map(([type, { soft, hard }]) => {
    const own = host.hard.get(type) ?? Infinity
    const ceiling = host.capabilities.has('CAP_SYS_RESOURCE') ? Infinity : own
    return { type, soft: Math.min(soft, hard, ceiling), hard: Math.min(hard, ceiling) }
  })
}
