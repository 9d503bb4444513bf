/**
 * Published SCTP ports, which kernels balance and userspace cannot. Who publishes one is told at
 * once, by what nodes report of themselves: refused when no node could answer on it, warned of the
 * nodes that will not.
 */
import { SwarmError } from '../base/errors.ts'
import type { ServiceSpec } from '../store/spec.ts'
import type { StoreView } from '../store/view.ts'

/** Names of nodes in a warning; more are counted. */
const NAMES_MAX = 5

/** What to tell who publishes these ports. @throws FAILED_PRECONDITION when no node could answer */
export function sctpWarnings(store: StoreView, spec: ServiceSpec): readonly string[] {
  const ports = (spec.EndpointSpec?.Ports ?? []).filter(({ Protocol }) => Protocol === 'sctp')
  const nodes = store.list('nodes')
  const deaf = nodes.filter(({ description }) => description.balancer.name === 'userspace')
  return ports.flatMap(({ PublishedPort: published, TargetPort: target }) => {
    if (deaf.length === 0) return []
    const port = `port ${published ?? target}/sctp`
    if (deaf.length === nodes.length) {
      const what = 'no node balances in its kernel, and userspace speaks no SCTP'
      throw new SwarmError('FAILED_PRECONDITION', `${port}: ${what}; skein doctor says why`)
    }
    const names = deaf.slice(0, NAMES_MAX).map(({ description }) => description.hostname)
    const more = deaf.length > NAMES_MAX ? ` and ${deaf.length - NAMES_MAX} more` : ''
    return [`${port}: does not answer on ${names.join(', ')}${more}, which balance in userspace`]
  })
}
