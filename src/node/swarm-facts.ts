/** What the executor, which is chosen before this node is in a swarm, asks of the swarm later. */
import type { SwarmFacts } from '../agent/choose-executor.ts'
import type { SwarmMember } from '../cluster/member.ts'

/** Filled in by the attachment of each membership. */
export class LateSwarmFacts implements SwarmFacts {
  member: SwarmMember | undefined

  /** The id of a membership that could not be taken up; what it left still has its name. */
  formerNodeId = ''

  /** This node's id; empty outside a swarm. */
  nodeId(): string {
    return this.member?.nodeId ?? this.formerNodeId
  }

  /** Pools that container subnets are cut from. */
  readonly addressPools = (): readonly string[] => this.member?.store.cluster()?.addressPools ?? []
}
