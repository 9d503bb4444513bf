/**
 * Nodes that balance in userspace have no plane: no overlay, and no names. Who wants a service on
 * networks is told of them, by what nodes report of themselves.
 */
import type { ServiceSpec } from '../store/spec.ts'
import type { StoreView } from '../store/view.ts'
import { maybeParse, meetsConstraints } from './constraints.ts'
import { attachmentsOf, findNetwork, isOverlay } from './networks.ts'

/** Names of nodes in a warning; more are counted. */
const NAMES_MAX = 5

/** What to tell who wants a service on networks. */
export function networkWarnings(store: StoreView, spec: ServiceSpec): readonly string[] {
  const attachments = attachmentsOf(store, spec)
  if (typeof attachments === 'string') return []
  const names = attachments.flatMap(({ networkId }) => {
    const network = findNetwork(store, networkId)
    return network !== undefined && isOverlay(network) ? [network.spec.Name] : []
  })
  const constraints = maybeParse(spec.TaskTemplate.Placement?.Constraints ?? []) ?? []
  const bare = store.list('nodes').filter((node) => {
    const isBare = node.description.balancer.name === 'userspace'
    return isBare && meetsConstraints(constraints, node)
  })
  if (names.length === 0 || bare.length === 0) return []
  const hosts = bare.slice(0, NAMES_MAX).map(({ description }) => description.hostname)
  const more = bare.length > NAMES_MAX ? ` and ${bare.length - NAMES_MAX} more` : ''
  const where = `${hosts.join(', ')}${more}, which balance in userspace`
  return [`networks: tasks on ${where}, are not on ${names.join(', ')}; skein doctor says why`]
}
