/**
 * How the runtime sets up the core: writes overlap, leaders keep proving themselves, windows end.
 */
import type { CoreOptions } from '../core/core-options.ts'
import * as limits from './options.ts'

type CoreRelevant =
  | 'electionTicks'
  | 'heartbeatTicks'
  | 'learnerHeartbeatTicks'
  | 'leaseReads'
  | 'messageBytes'

/** Everything of the core's options but who this member is and where it stands. */
export function coreOptions(
  options: Pick<limits.ResolvedRaftOptions, CoreRelevant>,
): Omit<CoreOptions, 'id' | 'random' | 'applied'> {
  const { electionTicks, heartbeatTicks, learnerHeartbeatTicks, leaseReads, messageBytes } = options
  return {
    electionTicks,
    heartbeatTicks,
    learnerHeartbeatTicks,
    asyncStorageWrites: true,
    preVote: true,
    checkQuorum: true,
    // Followers honour leases; the leader's own is measured in real time (`lease.ts`), so the core
    // still confirms every read index with a round.
    readOnly: leaseReads ? 'lease' : 'safe',
    leaseTicks: 0,
    maxBytesPerMessage: messageBytes,
    maxUncommittedBytes: limits.UNCOMMITTED_BYTES_MAX,
    maxInflightMessages: limits.INFLIGHT_MESSAGES_MAX,
    maxInflightBytes: limits.INFLIGHT_BYTES_MAX,
    disableProposalForwarding: true,
    stepDownOnRemoval: true,
    informVoters: true,
  }
}
