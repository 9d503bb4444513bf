/**
 * What separates Raft's membership from the nodes' desired roles, as steps; pure. A manager is a
 * voter, a worker a learner of the same group (DESIGN.md):
 *
 *   new node ──► learner ──► (manager: certificate, caught up) ──► voter
 *   demoted voter ──► learner, no certificate      removed node ──► removed from the group
 *
 * Additions come before removals, so that the group does not shrink on its way to another of the
 * same size, and a leader that is itself demoted or removed hands leadership over last.
 *
 * Two steps wait until they cost no quorum. A voter that is dead or far behind counts in the quorum
 * without helping it, so a learner is promoted only when it answers and has nearly the whole log.
 * And a voter goes only when a majority of those that stay answers.
 * Source: swarmkit `manager/role_manager.go`; Ongaro §4.2.1; reference/raft.md bugs 18–21.
 */
import type { MemberProgress, Server } from '../raft/index.ts'
import type { Node } from '../store/objects.ts'
import { PROMOTION_BEHIND_MAX } from './limits.ts'

/** One step towards the wanted membership. */
export type RoleStep =
  | { readonly type: 'certify' | 'uncertify'; readonly node: Node }
  | { readonly type: 'addLearner' | 'addVoter'; readonly node: Node }
  | { readonly type: 'demoteVoter' | 'removeServer'; readonly id: string }
  | { readonly type: 'transfer' }

/** The Raft group as its leader sees it. */
export interface Group {
  readonly servers: readonly Server[]
  /** The leader's id. */
  readonly self: string
  readonly progressOf: (id: string) => MemberProgress | undefined
}

const ORDER: readonly RoleStep['type'][] = [
  'certify',
  'addLearner',
  'addVoter',
  'demoteVoter',
  'removeServer',
  'uncertify',
  'transfer',
]

/** Every step that is wanted, in the order in which they are to be taken. */
export function roleSteps(
  nodes: readonly Node[],
  group: Pick<Group, 'servers' | 'self'>,
): RoleStep[] {
  // Of a swarm that is just being founded nothing is written yet.
  if (nodes.length === 0) return []
  const suffrage = new Map(group.servers.map((server) => [server.id, server.suffrage]))
  const wanted = new Set(nodes.map((node) => node.id))
  const steps = [
    ...nodes.flatMap((node) => stepsOf(node, suffrage.get(node.id))),
    ...group.servers
      .filter(({ id }) => !wanted.has(id))
      .map(({ id }): RoleStep => ({ type: 'removeServer', id })),
  ]
  return steps
    .map((step) => ('id' in step && step.id === group.self ? TRANSFER : step))
    .toSorted((a, b) => ORDER.indexOf(a.type) - ORDER.indexOf(b.type))
}

/**
 * The first wanted step that may be taken now; `isHeld` names those that are not to be tried yet.
 */
export function nextRoleStep(
  nodes: readonly Node[],
  group: Group,
  isHeld: (step: RoleStep) => boolean = () => false,
): RoleStep | undefined {
  return roleSteps(nodes, group).find((step) => mayTake(step, group) && !isHeld(step))
}

/** The node that a step is about; a transfer is about the leader. */
export function subjectOf(step: RoleStep): string | undefined {
  if ('node' in step) return step.node.id
  return 'id' in step ? step.id : undefined
}

const TRANSFER: RoleStep = { type: 'transfer' }

function stepsOf(node: Node, suffrage: Server['suffrage'] | undefined): RoleStep[] {
  const steps: RoleStep[] = []
  const isManager = node.spec.Role === 'manager'
  const isCertified = node.certificate !== undefined
  if (isManager && !isCertified) steps.push({ type: 'certify', node })
  if (suffrage === undefined) steps.push({ type: 'addLearner', node })
  if (isManager && isCertified && suffrage === 'learner') steps.push({ type: 'addVoter', node })
  if (!isManager && suffrage === 'voter') steps.push({ type: 'demoteVoter', id: node.id })
  if (!isManager && isCertified) steps.push({ type: 'uncertify', node })
  return steps
}

function mayTake(step: RoleStep, group: Group): boolean {
  switch (step.type) {
    case 'addVoter':
      return isCaughtUp(step.node, group.progressOf(step.node.id))
    case 'demoteVoter':
    case 'removeServer':
      return leavesQuorum(step.id, group)
    case 'certify':
    case 'uncertify':
    case 'addLearner':
    case 'transfer':
      return true
    default:
      return step satisfies never
  }
}

/**
 * Raft counts a member as active for a while after its death, and a new one before its first word.
 * So the node must also have the last change of its own record, its promotion or a later one: it
 * lived when that came.
 */
function isCaughtUp(node: Node, progress: MemberProgress | undefined): boolean {
  if (progress === undefined || !progress.recentActive) return false
  const { mode, match, behind } = progress
  return mode !== 'snapshot' && match >= node.meta.version && behind <= PROMOTION_BEHIND_MAX
}

/** Whether a majority of the other voters answers. */
function leavesQuorum(id: string, { servers, self, progressOf }: Group): boolean {
  const goes = servers.find((server) => server.id === id)
  if (goes?.suffrage !== 'voter') return true
  const stay = servers.filter((server) => server.suffrage === 'voter' && server.id !== id)
  const active = stay.filter((server) => {
    return server.id === self || progressOf(server.id)?.recentActive === true
  })
  return active.length * 2 > stay.length
}
