/**
 * Which schedulers a kernel has, and which one stands in for one that it has not: each is a module
 * of its own, and kernels for small machines leave some out. Of the same kind first: by the
 * client's address, by connections, in turn; then whatever is there.
 */
import { resolveFamily } from '../netlink/generic.ts'
import { deleteService, newService } from '../netlink/ipvs.ts'
import { IPVS_FAMILY } from '../netlink/ipvs-layout.ts'
import { isNetlinkError } from '../netlink/netlink-error.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { SCHEDULERS } from '../../store/service-labels.ts'
import type { Scheduler } from '../ports.ts'

/** By likeness; within each the better one first. */
const KINDS: readonly (readonly Scheduler[])[] = [
  ['wrr', 'rr', 'ovf', 'fo'],
  ['wlc', 'lc', 'sed', 'nq', 'lblcr', 'lblc'],
  ['mh', 'sh', 'dh'],
]

/** Mark of the services that are tried: in a namespace of their own. */
const TRIAL_MARK = 1

/**
 * Those of `names` that the kernel has not, found by trying each; it loads their modules.
 * @param socket of protocol `generic`, in a namespace where nobody balances @throws NetlinkError
 */
export async function missingSchedulers<Name extends string = Scheduler>(
  socket: NetlinkSocket,
  names: readonly Name[] = SCHEDULERS as readonly string[] as readonly Name[],
): Promise<readonly Name[]> {
  const { id } = await resolveFamily(socket, IPVS_FAMILY)
  const key = { type: 'mark', mark: TRIAL_MARK, family: 'ipv4' } as const
  const missing: Name[] = []
  for (const scheduler of names) {
    const flags = { onePacket: false, schedulerFallback: false, schedulerPort: false }
    try {
      await socket.request(newService(id, { key, options: { scheduler, ...flags } }))
      await socket.request(deleteService(id, key))
    } catch (error) {
      if (!isNetlinkError(error, 'ENOENT')) throw error
      missing.push(scheduler)
    }
  }
  return missing
}

/** `wanted`, or what stands in for it; undefined when nothing is there. */
export function schedulerFor(
  wanted: Scheduler,
  missing: readonly Scheduler[],
): Scheduler | undefined {
  const kind = KINDS.find((names) => names.includes(wanted)) ?? []
  return [wanted, ...kind, ...KINDS.flat()].find((name) => !missing.includes(name))
}
