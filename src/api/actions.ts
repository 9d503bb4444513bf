/**
 * From what a client asks to the actions of one transaction: what is special to the API stands here
 * (ids that derive from the request id, names and images as texts), the rest is
 * `control/commands.ts`. What could change meanwhile (names, versions) is checked again when the
 * transaction applies.
 */
import { createHash } from 'node:crypto'
import { SwarmError } from '../base/errors.ts'
import { IDENTIFIER_BYTES, IDENTIFIER_DIGITS, base36 } from '../base/identifiers.ts'
import { createService } from '../control/commands.ts'
import type { ServiceSpec } from '../store/spec.ts'
import type { Action } from '../store/transaction.ts'
import type { StoreView } from '../store/view.ts'

/** Docker's rule for service names: a DNS name component. */
const SERVICE_NAME = /^[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*$/

/** Longest service name: a DNS label. */
const SERVICE_NAME_MAX = 63

/**
 * The service that `requestId` creates. The same request again means the same service: it is
 * proposed again under its request id and has its first result.
 * @throws INVALID_ARGUMENT, ALREADY_EXISTS, UNIMPLEMENTED
 */
export function createServiceActions(
  store: StoreView,
  { spec, requestId }: { readonly spec: ServiceSpec; readonly requestId: string },
): { readonly id: string; readonly actions: readonly Action[] } {
  const hash = createHash('sha256').update('skein service\0').update(requestId).digest()
  const id = base36(hash.subarray(0, IDENTIFIER_BYTES), IDENTIFIER_DIGITS)
  assertSpecTexts(spec)
  if (store.get('services', id) !== undefined) {
    return {
      id,
      actions: [{ type: 'create', table: 'services', object: { id, spec, specVersion: 0 } }],
    }
  }
  return { id, actions: createService(store, { id, spec }) }
}

/** @throws INVALID_ARGUMENT for a name or image that Docker refuses, in its words */
export function assertSpecTexts(spec: ServiceSpec): void {
  if (spec.Name.length > SERVICE_NAME_MAX) {
    throw new SwarmError('INVALID_ARGUMENT', `name must be ${SERVICE_NAME_MAX} characters or fewer`)
  }
  if (!SERVICE_NAME.test(spec.Name)) {
    throw new SwarmError('INVALID_ARGUMENT', 'name must be valid as a DNS name component')
  }
  if (spec.TaskTemplate.ContainerSpec.Image === '') {
    throw new SwarmError('INVALID_ARGUMENT', 'ContainerSpec: image reference must be provided')
  }
}
