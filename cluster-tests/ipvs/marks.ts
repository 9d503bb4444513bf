/** Who marks packets in a guest: nftables where its kernel has them, as the guest's tier says. */
import { NftMarks } from '../../src/network/ipvs/nft-marks.ts'
import type { PacketMarks } from '../../src/network/ipvs/packet-marks.ts'
import type { Native } from '../../src/network/netlink/native.ts'
import { IptablesMarks } from './iptables-marks.ts'

/** Marks in a namespace of this guest. */
export async function marksIn(native: Native, netns: string): Promise<PacketMarks> {
  if (process.env['SKEIN_GUEST_TIER'] === 'uml') return new IptablesMarks(netns)
  return NftMarks.open(native, { table: 'skein_test_lb', netns })
}
