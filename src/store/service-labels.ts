/**
 * Labels of services that Skein itself obeys: who writes a service and who balances it read the
 * same words.
 */

/** `client-ip` sends a client to the same replica, whichever node it asks. */
export const AFFINITY_LABEL = 'skein.affinity'

/** How the kernel picks a replica, one of {@link SCHEDULERS}. */
export const SCHEDULER_LABEL = 'skein.scheduler'

/** `v2` has published TCP ports begin each connection with a PROXY header. */
export const PROXY_PROTOCOL_LABEL = 'skein.proxy-protocol'

/** How a kernel driver picks a backend; IPVS' names. Others take `wrr` for all but `mh`. */
export const SCHEDULERS = [
  'rr',
  'wrr',
  'lc',
  'wlc',
  'lblc',
  'lblcr',
  'dh',
  'sh',
  'sed',
  'nq',
  'fo',
  'ovf',
  'mh',
] as const

/** What each of the labels may be. */
const LABEL_VALUES: Readonly<Record<string, readonly string[]>> = {
  [AFFINITY_LABEL]: ['client-ip'],
  [SCHEDULER_LABEL]: SCHEDULERS,
  [PROXY_PROTOCOL_LABEL]: ['v2'],
}

/** Why a service's labels cannot be obeyed; undefined: they can. */
export function labelFault(labels: Readonly<Record<string, string>>): string | undefined {
  for (const [label, values] of Object.entries(LABEL_VALUES)) {
    const value = labels[label]
    if (value === undefined || values.includes(value)) continue
    const known = values.map((one) => `"${one}"`).join(', ')
    return `label ${label} "${value}" is not ${values.length === 1 ? known : `one of ${known}`}`
  }
  return undefined
}
