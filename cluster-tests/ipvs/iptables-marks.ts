/**
 * Marks for kernels without nftables, User Mode Linux's: the rules of `mark-rules.ts` said to
 * iptables-legacy, so that traffic can be proven there. For tests alone.
 */
import type { MarkChange, PacketMarks } from '../../src/network/ipvs/packet-marks.ts'
import type { PacketMark } from '../../src/network/ipvs/placement.ts'
import { within } from './case.ts'

/** nftables' skeleton has such a rule, too: connections are tracked from the start on. */
const ALWAYS_TRACKED = '-A PREROUTING -m conntrack --ctstate INVALID'

/** Marks with iptables. */
export class IptablesMarks implements PacketMarks {
  readonly #netns: string
  #wanted: readonly PacketMark[] = []

  constructor(netns: string) {
    this.#netns = netns
  }

  apply(wanted: readonly PacketMark[]): Promise<void> {
    this.#wanted = wanted
    for (const family of ['iptables-legacy', 'ip6tables-legacy']) {
      const rules = wanted.flatMap((mark) => ruleOf(mark, family))
      const chains = ['PREROUTING', 'OUTPUT'].flatMap((chain) =>
        rules.map((rule) => `-A ${chain} ${rule}`),
      )
      const text = ['*mangle', ALWAYS_TRACKED, ...chains, 'COMMIT', ''].join('\n')
      within(this.#netns, `${family}-restore <<'END'\n${text}END`)
    }
    return Promise.resolve()
  }

  change({ given, taken }: MarkChange): Promise<void> {
    const gone = new Set(taken.map((mark) => JSON.stringify(mark)))
    const kept = this.#wanted.filter((mark) => !gone.has(JSON.stringify(mark)))
    return this.apply([...kept, ...given])
  }

  check(): Promise<boolean> {
    return Promise.resolve(false)
  }

  remove(): Promise<void> {
    return this.apply([])
  }

  close(): void {}
}

function ruleOf({ mark, packets }: PacketMark, family: string): string[] {
  const set = `-j MARK --set-mark ${mark}`
  const isIpv6 = family.startsWith('ip6')
  if (packets.type === 'address') {
    return packets.address.includes(':') === isIpv6 ? [`-d ${packets.address} ${set}`] : []
  }
  const { protocol, port } = packets
  if ((packets.family === 'ipv6') !== isIpv6) return []
  const own = '-m addrtype --dst-type LOCAL -m conntrack ! --ctstate ESTABLISHED,RELATED'
  const notLoopback = isIpv6 ? '' : '! -d 127.0.0.0/8'
  // Marked by address before: the address counts.
  return [`${notLoopback} -p ${protocol} --dport ${port} ${own} -m mark --mark 0 ${set}`]
}
