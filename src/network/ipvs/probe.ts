/** Whether a kernel can balance with IPVS, and if not, why, in one sentence for people. */
import type { Native } from '../netlink/native.ts'
import { isNetlinkError } from '../netlink/netlink-error.ts'
import { resolveFamily } from '../netlink/generic.ts'
import { dumpServices } from '../netlink/ipvs.ts'
import { IPVS_FAMILY } from '../netlink/ipvs-layout.ts'
import { NetlinkSocket } from '../netlink/socket.ts'

/**
 * Undefined when IPVS can be used in this process's namespace, or in that of the path `netns`; asks
 * the kernel to load the module. @throws NetlinkError for what says nothing about IPVS
 */
export async function whyNoIpvs(native: Native, netns?: string): Promise<string | undefined> {
  const where = netns === undefined ? {} : { netns }
  try {
    await using socket = await NetlinkSocket.open(native, { protocol: 'generic', ...where })
    const { id } = await resolveFamily(socket, IPVS_FAMILY)
    await socket.dump(dumpServices(id))
    return undefined
  } catch (error) {
    if (isNetlinkError(error, 'ENOENT', 'EPROTONOSUPPORT')) {
      return 'the kernel has no IPVS (module ip_vs)'
    }
    if (isNetlinkError(error, 'EPERM', 'EACCES')) {
      return 'IPVS needs CAP_NET_ADMIN in the first user namespace'
    }
    throw error
  }
}
