/** What parts that are built before the swarm ask of it later. */
import type { SwarmMember } from '../cluster/member.ts'

/** Filled in by the attachment of each membership. */
export class LateSwarmFacts {
  member: SwarmMember | undefined

  /** This node's id; empty outside a swarm. */
  nodeId(): string {
    return this.member?.nodeId ?? ''
  }

  /** Pools that container subnets are cut from. */
  addressPools(): readonly string[] {
    return this.member?.store.cluster()?.addressPools ?? []
  }
}
