/**
 * Runs the commands of quorum scripts: `committed` and `vote`. Every answer is computed in several
 * ways that must agree; where they do not, the difference is printed, so that the script fails.
 * Source: etcd-io/raft `quorum/datadriven_test.go`, in its observable behaviour.
 */
import { assert, at } from '../../base/assert.ts'
import type { Index, PeerId } from '../core/entry.ts'
import { ascending, JointConfig, MajorityConfig } from '../core/quorum.ts'
import { argument, type ScriptCase } from './script.ts'

const WORDS = { won: 'VoteWon', lost: 'VoteLost', pending: 'VotePending' } as const

interface QuorumCase {
  readonly incoming: MajorityConfig
  readonly outgoing: MajorityConfig
  readonly joint: boolean
  /** Members in the order in which values are assigned. */
  readonly order: readonly PeerId[]
}

/** The output of one case. */
export function runQuorumCase(test: ScriptCase): string {
  const quorum = readQuorum(test)
  switch (test.command) {
    case 'committed':
      return committed(quorum, argument(test, 'idx') ?? [])
    case 'vote':
      return vote(quorum, argument(test, 'votes') ?? [])
    default:
      return `unknown command: ${test.command}\n`
  }
}

function readQuorum(test: ScriptCase): QuorumCase {
  const ids = (argument(test, 'cfg') ?? []).map(Number)
  const jointValues = argument(test, 'cfgj')
  const zero = jointValues?.length === 1 && jointValues[0] === 'zero'
  const outgoingIds = zero ? [] : (jointValues ?? []).map(Number)
  return {
    incoming: new MajorityConfig(ids),
    outgoing: new MajorityConfig(outgoingIds),
    joint: jointValues !== undefined,
    order: [...new Set([...ids, ...outgoingIds])],
  }
}

/** Values by member; `_` leaves a member out. */
function assign(order: readonly PeerId[], values: readonly string[]): Map<PeerId, string> {
  assert(values.length === order.length, 'one value a voter, explicit or _')
  const assigned = new Map<PeerId, string>()
  for (const [position, id] of order.entries()) {
    const value = at(values, position)
    if (value !== '_') assigned.set(id, value)
  }
  return assigned
}

function committed(quorum: QuorumCase, values: readonly string[]): string {
  const known = assign(quorum.order, values)
  const acked = (id: PeerId): Index | undefined => {
    const value = known.get(id)
    return value === undefined || Number(value) === 0 ? undefined : Number(value)
  }
  const { incoming, outgoing, joint } = quorum
  const index = new JointConfig(incoming, outgoing).committedIndex(acked)
  let output = plot(ascending(quorum.order), acked)
  const alternatives: Record<string, Index> = {
    symmetric: new JointConfig(outgoing, incoming).committedIndex(acked),
    definition: Math.min(byDefinition(incoming, acked), byDefinition(outgoing, acked)),
  }
  if (!joint) {
    alternatives['plain'] = incoming.committedIndex(acked)
    alternatives['with itself'] = new JointConfig(incoming, incoming).committedIndex(acked)
  }
  for (const [way, other] of Object.entries(alternatives)) {
    if (other !== index) output += `${show(other)} <-- ${way}\n`
  }
  return `${output}${show(index)}\n`
}

/** The highest index that more than half of the voters have reached, by trying each. */
function byDefinition(config: MajorityConfig, acked: (id: PeerId) => Index | undefined): Index {
  if (config.size === 0) return Number.POSITIVE_INFINITY
  const reached = (index: Index): number =>
    config.ids.filter((id) => (acked(id) ?? 0) >= index).length
  const candidates = config.ids.map((id) => acked(id) ?? 0)
  return Math.max(0, ...candidates.filter((index) => reached(index) * 2 > config.size))
}

function vote(quorum: QuorumCase, values: readonly string[]): string {
  const votes = new Map(
    [...assign(quorum.order, values)].map(([id, value]) => [id, value === 'y'] as const),
  )
  const { incoming, outgoing, joint } = quorum
  const result = new JointConfig(incoming, outgoing).voteResult(votes)
  const alternatives = {
    symmetric: new JointConfig(outgoing, incoming).voteResult(votes),
    ...(joint ? {} : { plain: incoming.voteResult(votes) }),
  }
  let output = ''
  for (const [way, other] of Object.entries(alternatives)) {
    if (other !== result) output += `${WORDS[other]} <-- ${way}\n`
  }
  return `${output}${WORDS[result]}\n`
}

function show(index: Index): string {
  return Number.isFinite(index) ? String(index) : '∞'
}

/** One bar a member, as long as there are members behind it. */
function plot(ids: readonly PeerId[], acked: (id: PeerId) => Index | undefined): string {
  if (ids.length === 0) return '<empty majority quorum>'
  const width = ids.length
  const indexes = ids.map((id) => acked(id) ?? 0)
  const rows = ids.map((id) => {
    const index = acked(id)
    const bar = indexes.filter((other) => other < (index ?? 0)).length
    const picture =
      index === undefined
        ? `?${' '.repeat(width)}`
        : `${'x'.repeat(bar)}>${' '.repeat(width - bar)}`
    return `${picture} ${String(index ?? 0).padStart(5)}    (id=${id})\n`
  })
  return `${' '.repeat(width)}    idx\n${rows.join('')}`
}
