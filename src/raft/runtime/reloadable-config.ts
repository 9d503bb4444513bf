/** Options that can change while a member runs. Source: hashicorp/raft `ReloadConfig`. */
import { SwarmError } from '../../base/errors.ts'
import { resolveRaftOptions, type ResolvedRaftOptions } from './options.ts'

const RELOADABLE = [
  'electionTicks',
  'heartbeatTicks',
  'snapshotThreshold',
  'snapshotThresholdBytes',
  'trailingEntries',
  'trailingBytes',
] as const

/** What `Raft.reloadConfig` takes. */
export type ReloadableConfig = Pick<ResolvedRaftOptions, (typeof RELOADABLE)[number]>

export function reloadableOf(options: ResolvedRaftOptions): ReloadableConfig {
  const { electionTicks, heartbeatTicks } = options
  const { snapshotThreshold, snapshotThresholdBytes, trailingEntries, trailingBytes } = options
  return {
    electionTicks,
    heartbeatTicks,
    snapshotThreshold,
    snapshotThresholdBytes,
    trailingEntries,
    trailingBytes,
  }
}

/**
 * `options` with `changes`.
 * @throws INVALID_ARGUMENT when one cannot be changed or the whole makes no sense;
 * FAILED_PRECONDITION for the election timeout where leases count on it
 */
export function reloaded(
  options: ResolvedRaftOptions,
  changes: Partial<ReloadableConfig>,
): ResolvedRaftOptions {
  const names: readonly string[] = RELOADABLE
  const unknown = Object.keys(changes).find((name) => !names.includes(name))
  if (unknown !== undefined) {
    throw new SwarmError('INVALID_ARGUMENT', `raft: ${unknown} cannot be changed while it runs`)
  }
  const next = resolveRaftOptions({ ...options, ...changes })
  if (options.leaseReads && next.electionTicks !== options.electionTicks) {
    const message = 'raft: leases count on electionTicks; restart all members to change it'
    throw new SwarmError('FAILED_PRECONDITION', message)
  }
  return next
}
