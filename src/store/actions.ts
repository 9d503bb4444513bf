/**
 * What each action of a transaction does. Pure over the staging area: the same actions on the same
 * objects have the same effect on every replica.
 */
import { isDeepStrictEqual } from 'node:util'
import { SwarmError } from '../base/errors.ts'
import { compareTaskStates, isTerminal, type Task, type TaskStatus } from './objects.ts'
import { restartDelayNs, successorTaskId } from './restart-policy.ts'
import type { Staging } from './staging.ts'
import type {
  Action,
  DesireTaskAction,
  ObserveNodeAction,
  ObserveTaskAction,
  RestartTaskAction,
} from './transaction.ts'

/** Performs `action`. @throws SwarmError when a rule forbids it */
export function performAction(staging: Staging, action: Action): void {
  switch (action.type) {
    case 'create':
      staging.create(action.table, action.object)
      return
    case 'update':
      staging.update(action.table, action.object, action.version)
      return
    case 'remove':
      staging.remove(action.table, action.id, action.version)
      return
    case 'desireTask':
      desireTask(staging, action)
      return
    case 'observeTask':
      observeTask(staging, action)
      return
    case 'observeNode':
      observeNode(staging, action)
      return
    case 'restartTask':
      restartTask(staging, action)
      return
    default:
      action satisfies never
  }
}

function desireTask(staging: Staging, action: DesireTaskAction): void {
  const task = staging.get('tasks', action.id)
  if (task === undefined) return
  if (compareTaskStates(action.desiredState, task.desiredState) <= 0) return
  staging.write('tasks', { ...task, desiredState: action.desiredState }, task.meta)
}

function observeTask(staging: Staging, action: ObserveTaskAction): void {
  const task = staging.get('tasks', action.id)
  if (task === undefined) return
  assertHolder(task, action.nodeId)
  assertNodesState(action.status)
  if (!isNews(task.status, action.status)) return
  staging.write('tasks', { ...task, status: action.status }, task.meta)
}

function observeNode(staging: Staging, action: ObserveNodeAction): void {
  const node = staging.expect('nodes', action.id)
  const { description, addresses, advertiseHost } = action
  const reported = { description, addresses, advertiseHost }
  const stored = {
    description: node.description,
    addresses: node.addresses,
    advertiseHost: node.advertiseHost,
  }
  if (isDeepStrictEqual(reported, stored)) return
  staging.write('nodes', { ...node, ...reported }, node.meta)
}

function restartTask(staging: Staging, action: RestartTaskAction): void {
  const task = staging.get('tasks', action.predecessor)
  const successorId = successorTaskId(action.predecessor)
  if (task === undefined) {
    throw new SwarmError('FAILED_PRECONDITION', `task ${action.predecessor}: it is gone`)
  }
  assertHolder(task, action.nodeId)
  assertNodesState(action.successorStatus)
  if (!isTerminal(action.status.state)) {
    throw new SwarmError('INVALID_ARGUMENT', `task ${task.id}: it has not ended`)
  }
  if (staging.get('tasks', successorId) !== undefined) return
  if (compareTaskStates(task.desiredState, 'running') > 0) {
    throw new SwarmError('FAILED_PRECONDITION', `task ${task.id}: it is no longer wanted`)
  }
  if (staging.get('services', task.serviceId) === undefined) {
    throw new SwarmError('FAILED_PRECONDITION', `task ${task.id}: its service is gone`)
  }
  const status = isNews(task.status, action.status) ? action.status : task.status
  staging.write('tasks', { ...task, status, desiredState: 'shutdown' }, task.meta)
  const { meta: _meta, ...inherited } = task
  staging.create('tasks', {
    ...inherited,
    id: successorId,
    desiredState: 'running',
    status: action.successorStatus,
    predecessor: task.id,
    attempt: task.attempt + 1,
    restartDelay: restartDelayNs(task.spec.RestartPolicy),
  })
}

/** Whether `next` tells more than `stored`: a later state, or the same with other contents. */
function isNews(stored: TaskStatus, next: TaskStatus): boolean {
  const order = compareTaskStates(next.state, stored.state)
  if (order !== 0) return order > 0
  return !isDeepStrictEqual({ ...stored, timestamp: '' }, { ...next, timestamp: '' })
}

function assertHolder(task: Task, nodeId: string): void {
  if (task.nodeId === nodeId) return
  throw new SwarmError('PERMISSION_DENIED', `task ${task.id}: node ${nodeId} does not hold it`)
}

/** A node reports from ACCEPTED on, and never that its own tasks are orphaned. */
function assertNodesState(status: TaskStatus): void {
  if (compareTaskStates(status.state, 'assigned') > 0 && status.state !== 'orphaned') return
  throw new SwarmError('INVALID_ARGUMENT', `task status: a node does not report ${status.state}`)
}
