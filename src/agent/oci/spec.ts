/**
 * The OCI `config.json` of a task: pure, from values that were looked up before. Version 1.0.2 is
 * what both old and new runtimes accept.
 * Source: OCI runtime-spec 1.0.2 `config.md`, `config-linux.md`; Docker's defaults.
 */
import type { TaskPlan } from '../ports.ts'
import { isOnHostNetwork } from '../task-plan.ts'
import { containerCapabilities } from './capabilities.ts'
import { clampLimits } from './limits-of-host.ts'
import type { HostLimits } from './limits-of-host.ts'
import { systemMounts } from './mounts.ts'
import type { OciMount } from './mounts.ts'
import { cgroupResources } from './resources.ts'
import type { CgroupFacts } from './resources.ts'
import type { SeccompFilter } from './seccomp.ts'
import type { ContainerUser } from './user.ts'

/** Kernel files that tell or change too much about the host. */
const MASKED_PATHS: readonly string[] = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
]

/** Kernel files that may be read but not written. */
const READONLY_PATHS: readonly string[] = [
  '/proc/bus',
  '/proc/fs',
  '/proc/irq',
  '/proc/sys',
  '/proc/sysrq-trigger',
]

/** Values that the pure part needs. */
export interface SpecInputs {
  readonly plan: TaskPlan
  readonly argv: readonly string[]
  readonly env: readonly string[]
  readonly cwd: string
  readonly user: ContainerUser
  /** Relative to the bundle, or absolute. */
  readonly rootPath: string
  readonly mounts: readonly OciMount[]
  /** Undefined: a namespace of its own with nothing but loopback. */
  readonly networkNamespace?: string
  readonly cgroupsPath: string
  readonly host: HostLimits
  readonly cgroups: CgroupFacts
  /** The filter for a set of capabilities; undefined where there is none. */
  readonly seccomp: (capabilities: readonly string[]) => SeccompFilter | undefined
}

/** The part of a `config.json` that others than the runtime look at. */
export interface OciSpec {
  /** Also what a health check runs as, but for its arguments. */
  readonly process: { readonly env: readonly string[]; readonly [member: string]: unknown }
  readonly [section: string]: unknown
}

/** Makes `config.json`. @throws INVALID_ARGUMENT for a capability that does not exist */
export function ociSpec(inputs: SpecInputs): OciSpec {
  const container = inputs.plan.task.spec.ContainerSpec
  const capabilities = containerCapabilities(
    container.CapabilityAdd ?? [],
    container.CapabilityDrop ?? [],
    inputs.host.capabilities,
  )
  return {
    ociVersion: '1.0.2',
    process: processSection(inputs, capabilities),
    root: { path: inputs.rootPath, readonly: container.ReadOnly === true },
    hostname: inputs.plan.hostname,
    mounts: [...systemMounts(inputs.cgroups), ...inputs.mounts],
    annotations: { 'skein.task.id': inputs.plan.task.id },
    linux: linuxSection(inputs, capabilities),
  }
}

function processSection(inputs: SpecInputs, capabilities: readonly string[]): OciSpec['process'] {
  const { user, plan } = inputs
  const ulimits = plan.task.spec.ContainerSpec.Ulimits ?? []
  // Permitted and effective are for root; the kernel clears them on exec for anyone else.
  return {
    terminal: false,
    user: { uid: user.uid, gid: user.gid, additionalGids: user.additionalGids },
    args: inputs.argv,
    env: inputs.env,
    cwd: inputs.cwd,
    capabilities: {
      bounding: capabilities,
      effective: capabilities,
      permitted: capabilities,
      inheritable: [],
      ambient: [],
    },
    rlimits: clampLimits(ulimits, inputs.host),
    noNewPrivileges: true,
  }
}

/** None for a task on the network `host`: it keeps the daemon's. */
function networkNamespace({ plan, networkNamespace: path }: SpecInputs): object[] {
  if (isOnHostNetwork(plan.task)) return []
  return [path === undefined ? { type: 'network' } : { type: 'network', path }]
}

function linuxSection(inputs: SpecInputs, capabilities: readonly string[]): object {
  const { task } = inputs.plan
  const seccomp = inputs.seccomp(capabilities)
  const namespaces = [
    { type: 'pid' },
    { type: 'ipc' },
    { type: 'uts' },
    { type: 'mount' },
    ...networkNamespace(inputs),
    ...(inputs.cgroups.mode === 'v2' ? [{ type: 'cgroup' }] : []),
  ]
  return {
    namespaces,
    resources: cgroupResources(task.spec.Resources, inputs.cgroups),
    cgroupsPath: inputs.cgroupsPath,
    maskedPaths: MASKED_PATHS,
    readonlyPaths: READONLY_PATHS,
    ...(seccomp === undefined ? {} : { seccomp }),
    ...(task.spec.ContainerSpec.Sysctls === undefined
      ? {}
      : { sysctl: task.spec.ContainerSpec.Sysctls }),
  }
}
