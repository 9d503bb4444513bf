/**
 * Leadership that moves because somebody asked: hand-over, giving up, asking for votes.
 * Source: Ongaro §3.10; hashicorp/raft `LeadershipTransfer`.
 */
import { SwarmError, isSwarmError } from '../../base/errors.ts'
import { NO_PEER } from '../core/entry.ts'
import type { Driver } from './driver.ts'
import { memberNumber } from './member-numbers.ts'
import type { MemberView } from './member-view.ts'
import type { CallOptions } from './pending-calls.ts'
import type { ServerId } from './ports.ts'
import { bestSuccessor } from './succession.ts'

/** The member that is asked. */
export interface HandoverParts {
  readonly raft: Pick<
    MemberView<unknown>,
    'id' | 'role' | 'leader' | 'configuration' | 'progressOf' | 'onLeadership'
  >
  readonly driver: Pick<
    Driver<unknown>,
    'calls' | 'act' | 'core' | 'membership' | 'options' | 'isRunning'
  >
}

/** Hands over to `to`, or to the best voter. The caller has checked that this member leads. */
export async function transferLeadership(
  { raft, driver }: HandoverParts,
  to: ServerId | undefined,
  options: CallOptions,
): Promise<void> {
  const target = to ?? bestSuccessor(raft)
  if (target === raft.id) return
  if (driver.membership.suffrageOf(target) !== 'voter') {
    throw new SwarmError('NOT_FOUND', `server ${target}: is no voter`)
  }
  const number = memberNumber(target)
  if (driver.core.transferee !== NO_PEER && driver.core.transferee !== number) {
    throw new SwarmError('FAILED_PRECONDITION', 'raft: leadership is being handed over already')
  }
  const message = `raft: server ${target} did not take over in time`
  const timeoutMs = options.timeoutMs ?? 2 * electionMs(driver)
  const call = driver.calls.start<void>({ ...options, timeoutMs }, message)
  const undo = raft.onLeadership(({ isLeader, leader }) => {
    if (!isLeader && leader !== undefined) call.resolve()
  })
  try {
    driver.act(() => driver.core.transferLeader(number))
    await call.promise
  } finally {
    undo()
  }
}

/** Hands over if somebody takes it; leads no more in any case. */
export async function stepDown(parts: HandoverParts, options: CallOptions): Promise<void> {
  const { raft, driver } = parts
  if (driver.membership.conf.voters.length < 2) {
    throw new SwarmError('FAILED_PRECONDITION', 'raft: there is no other voter to lead')
  }
  try {
    await transferLeadership(parts, undefined, options)
  } catch (error) {
    if (!isSwarmError(error, 'TIMED_OUT') && !isSwarmError(error, 'FAILED_PRECONDITION'))
      throw error
    if (raft.role !== 'leader' || !driver.isRunning) return
    driver.act(() => driver.core.stepDown())
  }
}

/** Asks for votes now. */
export async function campaign(
  { raft, driver }: HandoverParts,
  options: CallOptions,
): Promise<void> {
  if (raft.role === 'leader') return
  if (driver.membership.suffrageOf(raft.id) !== 'voter') {
    throw new SwarmError('FAILED_PRECONDITION', `server ${raft.id}: is no voter`)
  }
  const timeoutMs = options.timeoutMs ?? 2 * electionMs(driver)
  const message = `raft: server ${raft.id} was not elected in time`
  const call = driver.calls.start<void>({ ...options, timeoutMs }, message)
  const undo = raft.onLeadership(({ isLeader }) => {
    if (isLeader) call.resolve()
  })
  try {
    driver.act(() => driver.core.campaign())
    await call.promise
  } finally {
    undo()
  }
}

function electionMs({ options }: HandoverParts['driver']): number {
  return options.tickMs * options.electionTicks
}
