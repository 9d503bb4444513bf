/**
 * How this node runs tasks: the best way that passed a real test, and why not a better one.
 * containers (crun, runc) → processes with their image's root → plain processes.
 */
import { join } from 'node:path'
import type { Clock } from '../base/clock.ts'
import { errorText } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import { NodeNetwork } from './networking.ts'
import { probeRuntimes } from './oci/probe.ts'
import { runProbe } from './oci/probe-run.ts'
import type { Executor, TaskNetworks } from './ports.ts'
import type { ProcessMode } from './process/launch-script.ts'
import { ProcessExecutor } from './process/process-executor.ts'

/** What choosing needs. */
export interface ChooseComponents {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  /** How containers are connected; default: by `networking.ts`. */
  readonly networks?: TaskNetworks
}

/** What is wanted and where. */
export interface ChooseOptions {
  readonly dataDirectory: string
  readonly swarm: SwarmFacts
  /** `auto`: the best that works; `process`: no containers even if they would work. */
  readonly wanted?: 'auto' | 'process'
}

/** What is asked of the swarm when a task starts; the choice is made before there is one. */
export interface SwarmFacts {
  nodeId(): string
  /** The cluster's address pools; see `networking.ts`. */
  addressPools(): readonly string[]
}

/** Tests what this host can do and makes the executor. Always finds one. */
export async function chooseExecutor(
  components: ChooseComponents,
  options: ChooseOptions,
): Promise<Executor> {
  const { dataDirectory, swarm } = options
  const refusals: string[] = []
  if (options.wanted === 'process') {
    refusals.push('containers: not wanted by configuration')
  } else {
    const network =
      components.networks ??
      new NodeNetwork(components, {
        nodeId: () => swarm.nodeId(),
        addressPools: () => swarm.addressPools(),
      })
    const found = await probeRuntimes({ ...components, network }, { dataDirectory })
    if (found.executor !== undefined) return found.executor
    refusals.push(...found.refusals)
  }
  return chooseProcessExecutor(components, { dataDirectory, refusals })
}

async function chooseProcessExecutor(
  components: ChooseComponents,
  options: { readonly dataDirectory: string; readonly refusals: readonly string[] },
): Promise<Executor> {
  const volumesDirectory = join(options.dataDirectory, 'volumes')
  const refusals = [...options.refusals]
  const rooted: ProcessMode = process.getuid?.() === 0 ? 'chroot' : 'user-chroot'
  const make = (mode: ProcessMode): ProcessExecutor =>
    new ProcessExecutor(components, { mode, volumesDirectory, reason: refusals.join('; ') })
  const executor = make(rooted)
  try {
    await runProbe(executor, components.random, options.dataDirectory)
    return executor
  } catch (error) {
    components.log.debug({ err: error }, 'processes cannot have a root of their own')
    refusals.push(`${rooted}: ${errorText(error)}`)
    return make('host')
  }
}
