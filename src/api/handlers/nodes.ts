/**
 * `/nodes*`. Roles and availability are changed by writing the node's spec; `cluster/` acts on it.
 */
import type { Node } from '../../store/objects.ts'
import { removeNode, updateNode } from '../../control/commands.ts'
import { nodeJson } from '../docker/node.ts'
import { Filters } from '../filters.ts'
import { findNode } from '../lookup.ts'
import { requireManager } from '../manager.ts'
import type { ApiComponents, SwarmContext } from '../ports.ts'
import { empty, json } from '../reply.ts'
import type { Reply } from '../reply.ts'
import { flag, jsonBody, parameter, versionParameter } from '../request.ts'
import type { ApiRequest } from '../request.ts'
import { route } from '../router.ts'
import type { Route } from '../router.ts'
import { decodeNodeSpec } from '../schemas/swarm.ts'

const NODE_FILTERS = ['id', 'name', 'role', 'membership', 'label', 'node.label'] as const

/** Routes of nodes. */
export function nodeRoutes(components: ApiComponents): readonly Route[] {
  const show = (node: Node, context: SwarmContext): object =>
    nodeJson(node, { swarm: components.swarm, cluster: context.store.cluster() })
  return [
    route('GET', '/nodes', (request) => {
      const context = requireManager(components)
      const filters = Filters.parse(request.query, NODE_FILTERS)
      filters.requireOneOf('role', ['manager', 'worker'])
      filters.requireOneOf('membership', ['accepted', 'pending'])
      const nodes = context.store.list('nodes').filter((node) => matches(node, filters))
      return json(nodes.map((node) => show(node, context)))
    }),
    route('GET', '/nodes/{id}', (request) => {
      const context = requireManager(components)
      return json(show(findNode(context.store, parameter(request, 'id')), context))
    }),
    route('POST', '/nodes/{id}/update', (request) => update(components, request)),
    route('DELETE', '/nodes/{id}', (request) => remove(components, request)),
  ]
}

function matches(node: Node, filters: Filters): boolean {
  return (
    filters.prefix('id', node.id) &&
    filters.prefix('name', node.spec.Name ?? '', node.description.hostname) &&
    filters.some('role', (role) => node.spec.Role === role) &&
    filters.some('membership', (membership) => membership === 'accepted') &&
    filters.labels('label', node.description.engineLabels) &&
    filters.labels('node.label', node.spec.Labels)
  )
}

async function update(components: ApiComponents, request: ApiRequest): Promise<Reply> {
  const { store, proposer } = requireManager(components)
  const node = findNode(store, parameter(request, 'id'))
  const version = versionParameter(request, 'node')
  const spec = decodeNodeSpec(await jsonBody(request))
  await proposer.propose(updateNode(store, { id: node.id, version, spec }), {
    requestId: request.requestId,
    signal: request.signal,
  })
  return empty()
}

async function remove(components: ApiComponents, request: ApiRequest): Promise<Reply> {
  const { store, proposer } = requireManager(components)
  const node = findNode(store, parameter(request, 'id'))
  const actions = removeNode(store, { id: node.id, force: flag(request, 'force') })
  await proposer.propose(actions, { requestId: request.requestId, signal: request.signal })
  return empty()
}
