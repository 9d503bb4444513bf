/**
 * Limits and reservations as cgroup settings, in the OCI form that both cgroup versions understand.
 */
import { existsSync, readFileSync } from 'node:fs'
import type { TaskSpec } from '../../store/spec.ts'

/** `linux.resources` of the OCI runtime specification, as far as we set it. */
export interface CgroupResources {
  readonly devices: readonly { readonly allow: boolean; readonly access: string }[]
  readonly memory?: {
    readonly limit?: number
    readonly swap?: number
    readonly reservation?: number
  }
  readonly cpu?: { readonly quota?: number; readonly period?: number; readonly shares?: number }
  readonly pids?: { readonly limit: number }
}

/** What of cgroups this host has. */
export interface CgroupFacts {
  /** `hybrid`: version 1 with an extra, mostly empty, version 2 tree. */
  readonly mode: 'v1' | 'v2' | 'hybrid' | 'none'
  /** Whether swap is accounted, so that a memory limit can include it. */
  readonly limitsSwap: boolean
}

/** CFS period, microseconds: the kernel's own default. */
const CPU_PERIOD_US = 100_000
/** The shortest quota that the kernel takes, microseconds. */
const CPU_QUOTA_US_MIN = 1_000
/** Shares of one whole CPU, and the least the kernel takes. */
const CPU_SHARES_ONE = 1_024
const CPU_SHARES_MIN = 2
const NANO = 1e9
/** The least memory a container can start with, bytes: Docker's limit. */
export const MEMORY_BYTES_MIN = 6 * 1024 * 1024

/**
 * Translates a task's resources. On version 2 the runtime itself turns shares into weight and swap.
 */
export function cgroupResources(
  resources: TaskSpec['Resources'],
  facts: CgroupFacts,
): CgroupResources {
  const limits = resources?.Limits
  const reservations = resources?.Reservations
  const memory = {
    ...memoryLimit(limits?.MemoryBytes ?? 0, facts),
    ...positive('reservation', reservations?.MemoryBytes),
  }
  const cpu = {
    ...cpuLimit(limits?.NanoCPUs ?? 0),
    ...cpuShares(reservations?.NanoCPUs ?? 0),
  }
  const pids = limits?.Pids ?? 0
  return {
    devices: [{ allow: false, access: 'rwm' }],
    ...(Object.keys(memory).length > 0 ? { memory } : {}),
    ...(Object.keys(cpu).length > 0 ? { cpu } : {}),
    ...(pids > 0 ? { pids: { limit: pids } } : {}),
  }
}

/** Looks at how cgroups are mounted under `root`. */
export function readCgroupFacts(
  mounts: string = readFileSync('/proc/self/mounts', 'utf8'),
  root = '/sys/fs/cgroup',
): CgroupFacts {
  const rows = mounts.split('\n').map((line) => line.split(' '))
  const unified = rows.some((row) => row[1] === root && row[2] === 'cgroup2')
  if (unified) return { mode: 'v2', limitsSwap: true }
  const legacy = rows.some((row) => row[2] === 'cgroup' && row[1]?.startsWith(`${root}/`) === true)
  if (!legacy) return { mode: 'none', limitsSwap: false }
  const extra = rows.some((row) => row[1] === `${root}/unified` && row[2] === 'cgroup2')
  const limitsSwap = existsSync(`${root}/memory/memory.memsw.limit_in_bytes`)
  return { mode: extra ? 'hybrid' : 'v1', limitsSwap }
}

/**
 * Memory and swap together are held to the limit: a container over it is killed, not swapped out.
 */
function memoryLimit(bytes: number, facts: CgroupFacts): { limit?: number; swap?: number } {
  if (bytes <= 0) return {}
  const limit = Math.max(bytes, MEMORY_BYTES_MIN)
  return facts.limitsSwap ? { limit, swap: limit } : { limit }
}

function cpuLimit(nanoCpus: number): { quota?: number; period?: number } {
  if (nanoCpus <= 0) return {}
  const quota = Math.max(CPU_QUOTA_US_MIN, Math.round((nanoCpus / NANO) * CPU_PERIOD_US))
  return { quota, period: CPU_PERIOD_US }
}

function cpuShares(nanoCpus: number): { shares?: number } {
  if (nanoCpus <= 0) return {}
  return { shares: Math.max(CPU_SHARES_MIN, Math.round((nanoCpus / NANO) * CPU_SHARES_ONE)) }
}

function positive(name: string, value: number | undefined): Record<string, number> {
  return value === undefined || value <= 0 ? {} : { [name]: value }
}
