/**
 * Which runtime and monitor work on this host. Being installed proves nothing (crun 1.8 refuses
 * hybrid cgroups, hardened roots lack capabilities): each candidate runs a real container through
 * the same executor that tasks will use, and must bring its exit code back. Best first:
 * crun+conmon, runc+conmon, crun+sh, runc+sh.
 */
import { accessSync, constants, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '../../base/clock.ts'
import { errorText } from '../../base/errors.ts'
import { newIdentifier } from '../../base/identifiers.ts'
import type { Logger } from '../../base/log.ts'
import type { Random } from '../../base/random.ts'
import { hasErrno } from '../json-file.ts'
import type { TaskNetworks } from '../ports.ts'
import { TOOL_PATH } from '../run-command.ts'
import { openMounter } from '../syscalls.ts'
import { ConmonMonitor } from './conmon.ts'
import { readHostLimits } from './limits-of-host.ts'
import type { Monitor } from './monitor.ts'
import { OciExecutor } from './oci-executor.ts'
import type { OciComponents } from './oci-executor.ts'
import { runProbe } from './probe-run.ts'
import { readCgroupFacts } from './resources.ts'
import type { CgroupFacts } from './resources.ts'
import type { OciRuntime } from './runtime.ts'
import { seccompFilter } from './seccomp.ts'
import type { SeccompFilter } from './seccomp.ts'
import { ShOciMonitor } from './sh-oci-monitor.ts'

/** Where runtimes keep their state; tmpfs on every distribution. */
export const RUNTIME_STATE_ROOT = '/run/skein'

/** What probing needs. */
export interface ProbeComponents {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly network: TaskNetworks
}

/** How to probe. */
export interface ProbeOptions {
  readonly dataDirectory: string
  /** Only these, in this order; for tests and for operators who know better. */
  readonly candidates?: readonly RuntimeCandidate[]
}

/** A runtime with a monitor. */
export interface RuntimeCandidate {
  readonly runtime: 'crun' | 'runc'
  readonly monitor: 'conmon' | 'sh'
}

/** What was found: the first executor that works, and why others did not. */
export interface ProbeResult {
  readonly executor: OciExecutor | undefined
  /** One sentence for each candidate that was passed over. */
  readonly refusals: readonly string[]
}

/** All candidates, best first. */
export const RUNTIME_CANDIDATES: readonly RuntimeCandidate[] = [
  { runtime: 'crun', monitor: 'conmon' },
  { runtime: 'runc', monitor: 'conmon' },
  { runtime: 'crun', monitor: 'sh' },
  { runtime: 'runc', monitor: 'sh' },
]

/** Finds the best runtime that really runs a container here. */
export async function probeRuntimes(
  components: ProbeComponents,
  options: ProbeOptions,
): Promise<ProbeResult> {
  const refusals: string[] = []
  if (process.getuid?.() !== 0) {
    return { executor: undefined, refusals: ['containers need root: this process is not root'] }
  }
  try {
    await components.network.probe(newIdentifier(components.random))
  } catch (error) {
    const refusal = `containers cannot be networked here: ${errorText(error)}`
    return { executor: undefined, refusals: [refusal] }
  }
  const shared = await sharedParts(components)
  for (const candidate of options.candidates ?? RUNTIME_CANDIDATES) {
    const label = `${candidate.runtime}+${candidate.monitor}`
    const parts = findParts(candidate, shared)
    if (typeof parts === 'string') {
      refusals.push(`${label}: ${parts}`)
      continue
    }
    const executor = new OciExecutor(parts, {
      volumesDirectory: join(options.dataDirectory, 'volumes'),
      reason: [`${label} ran a test container`, ...refusals].join('; '),
    })
    try {
      await runProbe(executor, components.random, options.dataDirectory)
      return { executor, refusals }
    } catch (error) {
      refusals.push(`${label}: ${errorText(error)}`)
      components.log.debug({ err: error, candidate: label }, 'container runtime does not work')
    }
  }
  return { executor: undefined, refusals }
}

type SharedParts = Omit<OciComponents, 'runtime' | 'monitor'>

async function sharedParts(components: ProbeComponents): Promise<SharedParts> {
  return {
    clock: components.clock,
    network: components.network,
    mounter: await openMounter(),
    host: readHostLimits(),
    cgroups: readCgroupFacts(),
    seccomp: cachedSeccomp(),
  }
}

function findParts(candidate: RuntimeCandidate, shared: SharedParts): OciComponents | string {
  const path = findTool(candidate.runtime)
  if (path === undefined) return `${candidate.runtime} is not installed`
  const monitor = findMonitor(candidate.monitor, shared.clock)
  if (monitor === undefined) return `${candidate.monitor} is not installed`
  const runtime: OciRuntime = {
    name: candidate.runtime,
    path,
    stateRoot: `${RUNTIME_STATE_ROOT}/${candidate.runtime}`,
    hidesUnifiedTree: candidate.runtime === 'crun' && hasHybridControllers(shared.cgroups),
  }
  return { ...shared, runtime, monitor }
}

function findMonitor(name: 'conmon' | 'sh', clock: Clock): Monitor | undefined {
  if (name === 'sh') return new ShOciMonitor(clock)
  const path = findTool('conmon')
  return path === undefined ? undefined : new ConmonMonitor(path)
}

/** The path of an executable, or undefined. */
export function findTool(name: string): string | undefined {
  return TOOL_PATH.split(':')
    .map((directory) => join(directory, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK)
        return true
      } catch (error) {
        if (hasErrno(error, 'ENOENT', 'EACCES', 'ENOTDIR')) return false
        throw error
      }
    })
}

function hasHybridControllers(cgroups: CgroupFacts): boolean {
  if (cgroups.mode !== 'hybrid') return false
  try {
    return readFileSync('/sys/fs/cgroup/unified/cgroup.controllers', 'utf8').trim() !== ''
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'EACCES')) return false
    throw error
  }
}

/** Containers mostly have the same capabilities: their filter is made once. */
function cachedSeccomp(): (capabilities: readonly string[]) => SeccompFilter | undefined {
  const made = new Map<string, SeccompFilter | undefined>()
  return (capabilities) => {
    const key = capabilities.join()
    if (!made.has(key)) made.set(key, seccompFilter(capabilities, process.arch))
    return made.get(key)
  }
}
