/**
 * Finds objects by what people type: the whole id, then the name, then a unique beginning of the
 * id, in Docker's order and with Docker's refusals (recorded answers 240, 241, 272).
 */
import { at } from '../base/assert.ts'
import { SwarmError } from '../base/errors.ts'
import type { Node, Service, Task } from '../store/objects.ts'
import type { StoreView } from '../store/view.ts'

/** @throws NOT_FOUND, INVALID_ARGUMENT when ambiguous */
export function findNode(store: StoreView, reference: string): Node {
  const exact = store.get('nodes', reference)
  if (exact !== undefined) return exact
  const named = store
    .list('nodes')
    .filter((node) => node.spec.Name === reference || node.description.hostname === reference)
  return only('node', reference, named.length > 0 ? named : byPrefix(store, 'nodes', reference))
}

/** @throws NOT_FOUND, INVALID_ARGUMENT when ambiguous */
export function findService(store: StoreView, reference: string): Service {
  const exact = store.get('services', reference)
  if (exact !== undefined) return exact
  const named = store.find('services', 'name', reference)
  return only(
    'service',
    reference,
    named.length > 0 ? named : byPrefix(store, 'services', reference),
  )
}

/** @throws NOT_FOUND, INVALID_ARGUMENT when ambiguous */
export function findTask(store: StoreView, reference: string): Task {
  const exact = store.get('tasks', reference)
  if (exact !== undefined) return exact
  const named = store.list('tasks').filter((task) => taskName(task) === reference)
  return only('task', reference, named.length > 0 ? named : byPrefix(store, 'tasks', reference))
}

/** Docker's name of a task: `web.1.<id>`; of a task without a slot `web.<node id>.<id>`. */
export function taskName(task: Task): string {
  return `${task.serviceName}.${task.slot > 0 ? task.slot : task.nodeId}.${task.id}`
}

function byPrefix<T extends 'nodes' | 'services' | 'tasks'>(
  store: StoreView,
  table: T,
  prefix: string,
): ReturnType<typeof store.findByIdPrefix<T>> {
  return prefix === '' ? [] : store.findByIdPrefix(table, prefix)
}

function only<T>(kind: string, reference: string, matches: readonly T[]): T {
  if (matches.length === 0) throw new SwarmError('NOT_FOUND', `${kind} ${reference} not found`)
  if (matches.length > 1) {
    throw new SwarmError(
      'INVALID_ARGUMENT',
      `${kind} ${reference} is ambiguous (${matches.length} matches found)`,
    )
  }
  return at(matches, 0)
}
