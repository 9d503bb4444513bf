/**
 * `swarm join`: prove the token to a manager, be admitted, and become a member. Everything before
 * the membership file is written can fail without a trace here; the manager may then keep a record
 * of a node that never came, which shows as down and is removed like any dead node.
 */
import type { JoinRequest } from '../api/ports.ts'
import { SwarmError } from '../base/errors.ts'
import { join } from '../mesh/join-client.ts'
import type { Admission } from './join-authority.ts'
import { JOIN_CATCH_UP_TIMEOUT_MS } from './limits.ts'
import type { SwarmMember } from './member.ts'
import { writeMembership } from './membership-file.ts'
import { membershipRecord, openMember, ownDetails } from './start.ts'
import type { Start } from './start.ts'

/** Joins the cluster of `request.token` through one of `request.remoteAddresses`. */
export async function joinCluster(start: Start, request: JoinRequest): Promise<SwarmMember> {
  const joined = await join(start.components, {
    privateKeySeed: start.key.seed,
    addresses: request.remoteAddresses,
    token: request.token,
    details: ownDetails(start, request.availability),
  })
  const admission = joined.admission as Admission
  if (admission.dataKey !== undefined) await start.keys.adopt(admission.dataKey)
  const record = membershipRecord(start, admission)
  await writeMembership(start.directory, record)
  return openMember(start, record, { bootstrap: false })
}

/**
 * Waits until the replica knows this node, and a manager can decide. The join stands whether or not
 * that happens in time. @throws TIMED_OUT
 */
export async function untilCaughtUp(member: SwarmMember): Promise<void> {
  const deadline = Promise.withResolvers<never>()
  const timer = AbortSignal.timeout(JOIN_CATCH_UP_TIMEOUT_MS)
  timer.addEventListener('abort', () => {
    deadline.reject(
      new SwarmError(
        'TIMED_OUT',
        'Timeout was reached before node joined. The attempt to join the swarm will continue in ' +
          'the background. Use the "info" command to see the current swarm status of your node.',
      ),
    )
  })
  const caughtUp = Promise.withResolvers<void>()
  const check = (): void => {
    if (isCaughtUp(member)) caughtUp.resolve()
  }
  const undo = [member.store.onCommit(check), member.raft.onConfiguration(check)]
  check()
  try {
    await Promise.race([caughtUp.promise, deadline.promise])
  } finally {
    for (const one of undo) one()
  }
}

function isCaughtUp(member: SwarmMember): boolean {
  const { role } = member
  if (role === undefined) return false
  if (role === 'worker') return true
  const servers = member.raft.configuration.servers
  return servers.some((one) => one.id === member.nodeId && one.suffrage === 'voter')
}
