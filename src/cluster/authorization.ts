/**
 * Who may propose what. A manager may propose anything: it could write the log anyway. A worker may
 * report on itself and its own tasks, and nothing else, so that a captured worker cannot grant
 * itself work, roles or secrets. Checked by the leader before the proposal enters the log; the
 * caller's node id is proven by the mesh.
 */
import { SwarmError } from '../base/errors.ts'
import type { Action } from '../store/transaction.ts'
import type { StoreView } from '../store/view.ts'

/** @throws PERMISSION_DENIED when the node `nodeId` may not propose `actions` */
export function authorize(store: StoreView, nodeId: string, actions: readonly Action[]): void {
  const node = store.get('nodes', nodeId)
  if (node === undefined) {
    throw new SwarmError('PERMISSION_DENIED', `node ${nodeId}: not a member of this swarm`)
  }
  if (node.spec.Role === 'manager') return
  for (const action of actions) {
    if (!ownReport(store, nodeId, action)) {
      const what = `node ${nodeId}: a worker may not propose ${action.type}`
      throw new SwarmError('PERMISSION_DENIED', `${what} for what is not its own`)
    }
  }
}

function ownReport(store: StoreView, nodeId: string, action: Action): boolean {
  switch (action.type) {
    case 'observeNode':
      return action.id === nodeId
    case 'observeTask':
      return action.nodeId === nodeId && ownTask(store, nodeId, action.id)
    case 'restartTask':
      return action.nodeId === nodeId && ownTask(store, nodeId, action.predecessor)
    case 'create':
    case 'update':
    case 'remove':
    case 'desireTask':
      return false
    default:
      return action satisfies never
  }
}

/** A task that is gone counts as own: the report is dropped by the state machine anyway. */
function ownTask(store: StoreView, nodeId: string, taskId: string): boolean {
  const task = store.get('tasks', taskId)
  return task === undefined || task.nodeId === nodeId
}
