/**
 * Which executor this node uses: the best container runtime that really runs a container here, else
 * supervised processes. The reasons for what was passed over are part of the answer.
 */
import { NodeNetwork } from '../agent/networking.ts'
import { noRuntime } from '../agent/oci/oci-executor.ts'
import { probeRuntimes } from '../agent/oci/probe.ts'
import type { Executor } from '../agent/ports.ts'
import type { Clock } from '../base/clock.ts'
import type { Logger } from '../base/log.ts'
import type { Random } from '../base/random.ts'

/** What the choice needs to know of the swarm, which comes later. */
export interface SwarmFacts {
  nodeId(): string
  addressPools(): readonly string[]
}

/** Probes and chooses. */
export async function chooseExecutor(
  components: { readonly clock: Clock; readonly random: Random; readonly log: Logger },
  options: { readonly dataDirectory: string; readonly swarm: SwarmFacts },
): Promise<Executor> {
  const { swarm } = options
  const network = new NodeNetwork(components, {
    get nodeId() {
      return swarm.nodeId()
    },
    addressPools: () => swarm.addressPools(),
  })
  const { executor, refusals } = await probeRuntimes({ ...components, network }, options)
  if (executor === undefined) throw noRuntime(refusals)
  return executor
}
