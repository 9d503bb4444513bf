/**
 * The little of networks, secrets and configs that clients ask in passing: Skein has the one
 * network `ingress`, and no secrets or configs yet.
 */
import { SwarmError } from '../../base/errors.ts'
import { INGRESS_NAME, ingressJson } from '../docker/network.ts'
import { Filters } from '../filters.ts'
import { requireManager } from '../manager.ts'
import type { ApiComponents } from '../ports.ts'
import { json } from '../reply.ts'
import { flag, parameter } from '../request.ts'
import { route } from '../router.ts'
import type { Route } from '../router.ts'

const NETWORK_FILTERS = ['id', 'name', 'driver', 'scope', 'type', 'label', 'dangling'] as const

/** Routes of networks, and the empty lists of secrets and configs. */
export function networkRoutes(components: ApiComponents): readonly Route[] {
  const emptyList = (keys: readonly string[]): Route['handler'] => {
    return (request) => {
      requireManager(components)
      Filters.parse(request.query, keys)
      return json([])
    }
  }
  return [
    route('GET', '/networks', (request) => {
      const filters = Filters.parse(request.query, NETWORK_FILTERS)
      const cluster = components.context()?.store.cluster()
      if (cluster === undefined) return json([])
      const shown =
        filters.prefix('id', cluster.id) &&
        filters.some('name', (name) => INGRESS_NAME.includes(name)) &&
        filters.some('driver', (driver) => driver === 'overlay') &&
        filters.some('scope', (scope) => scope === 'swarm') &&
        filters.some('type', (type) => type === 'builtin') &&
        filters.some('dangling', (value) => ['0', 'false'].includes(value)) &&
        filters.labels('label', {})
      return json(shown ? [ingressJson(cluster)] : [])
    }),
    route('GET', '/networks/{id}', (request) => {
      const name = parameter(request, 'id')
      const cluster = components.context()?.store.cluster()
      if (cluster === undefined || (name !== INGRESS_NAME && !cluster.id.startsWith(name))) {
        throw new SwarmError('NOT_FOUND', `network ${name} not found`)
      }
      const services = flag(request, 'verbose') ? { Services: {} } : {}
      return json({ ...ingressJson(cluster), ...services })
    }),
    route('GET', '/secrets', emptyList(['id', 'name', 'names', 'label'])),
    route('GET', '/configs', emptyList(['id', 'name', 'names', 'label'])),
  ]
}
