/**
 * The way of a tunnel, as every hop of it is told: all nodes from the one that asked to the one
 * that is wanted. A node takes part only in a path that it can check: it stands where the path
 * says, the caller before it is who the path says (its key is proven), and nobody stands in it
 * twice.
 */
import { SwarmError } from '../../base/errors.ts'
import { asFields, integer } from '../control-message.ts'

/** Nodes that may stand between the ends. Each costs two links, its processor and its memory. */
export const RELAYS_MAX = 2

/** Where this node stands in a tunnel's path. */
export interface TunnelPlace {
  /** Node ids, from who asked to who is wanted. */
  readonly path: readonly string[]
  /** This node's index in it; 1 at the first relay. */
  readonly at: number
}

/** Who this node is and who called it; both proven. */
export interface Hop {
  readonly self: string
  readonly caller: string
}

/**
 * Reads the header of a tunnel's stream.
 * @throws INVALID_ARGUMENT (malformed, too long, a loop), PERMISSION_DENIED (another caller)
 */
export function checkedPlace(header: unknown, { self, caller }: Hop): TunnelPlace {
  const fields = asFields(header)
  const path = idsOf(fields['path'])
  const at = integer(fields, 'at')
  if (path.length > RELAYS_MAX + 2) {
    throw new SwarmError('INVALID_ARGUMENT', `tunnel: more than ${RELAYS_MAX} relays`)
  }
  if (new Set(path).size !== path.length) {
    throw new SwarmError('INVALID_ARGUMENT', 'tunnel: its path is a loop')
  }
  if (at < 1 || path[at] !== self || path.length < 3) {
    throw new SwarmError('INVALID_ARGUMENT', 'tunnel: this node is not where the path says')
  }
  if (path[at - 1] !== caller) {
    throw new SwarmError('PERMISSION_DENIED', 'tunnel: the caller is not where the path says')
  }
  return { path, at }
}

function idsOf(value: unknown): readonly string[] {
  if (Array.isArray(value) && value.every((id): id is string => typeof id === 'string')) {
    return value
  }
  throw new SwarmError('INVALID_ARGUMENT', 'tunnel: its path is no list of nodes')
}
