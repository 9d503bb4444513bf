/**
 * Firewalls that stand beside the plane, on this machine's kernel in namespaces of the test's own.
 * Needs root, the built addon and nft; says so where it has not.
 */
import { at } from '../../base/assert.ts'
import { NetlinkSocket } from '../netlink/socket.ts'
import { kernelTest } from '../netlink/testing/sandbox.ts'
import { hostFirewallFaults } from './host-firewall.ts'
import { planeNames } from './names.ts'
import { Overlay } from './testing/overlay.ts'

/** A table as Docker's or ufw's, with these rules. */
function table(hook: 'forward' | 'input', rules = '', family = 'ip'): string {
  const head = `type filter hook ${hook} priority 0; policy drop;`
  return `nft 'table ${family} filter { chain HOST { ${head} ${rules}; }; chain other { accept; }; }'`
}

kernelTest(
  'a firewall that drops what nobody accepts is said, and what helps',
  async (t, sandbox) => {
    const { native, netns, run } = sandbox
    await using socket = await NetlinkSocket.open(native, { protocol: 'netfilter', netns })
    const faults = (
      fields: { bridge?: string; hasIpv6?: boolean } = {},
    ): Promise<readonly string[]> =>
      hostFirewallFaults(socket, { netns, hasIpv6: false, ...fields })
    t.deepEqual(await faults(), [])
    run(table('forward'))
    const [forward = '', ...more] = await faults()
    t.regex(
      forward,
      /^chain HOST of the host's table ip filter drops by default: .*published ports/,
    )
    t.regex(forward, /accept what is forwarded from and to sk\* and sv\*$/)
    t.deepEqual(more, [])
    run('nft delete table ip filter')
    run(table('input', 'tcp dport 22 accept', 'inet'))
    t.regex((await faults()).join(), /table inet filter drops by default: containers have no names/)
    run('nft delete table inet filter')
    run(table('forward', '', 'ip6'))
    t.deepEqual(await faults(), [], 'nothing of ours is in IPv6')
    t.is((await faults({ hasIpv6: true })).length, 1)
    run('nft delete table ip6 filter')
    run(
      `nft 'table ip nat { chain pre { type nat hook prerouting priority -100; policy drop; }; }'`,
    )
    t.deepEqual(await faults(), [], 'another hook is not asked about')
    run('nft delete table ip nat')

    run(table('forward', 'iifname "sk*" accept; oifname "sk*" accept'))
    t.deepEqual(await faults({ bridge: 'sk12345678' }), [], 'somebody thought of it')
    run('nft delete table ip filter')
    run(table('forward', 'oifname "sk12345678" accept'))
    t.deepEqual(await faults({ bridge: 'sk12345678' }), [])
    t.is((await faults({ bridge: 'sk87654321' })).length, 1, 'of another node on this host')
  },
)

kernelTest(
  'the plane says which firewall of its host stops it, and when none does',
  async (t, sandbox) => {
    await using overlay = await Overlay.create(sandbox, 1)
    const node = at(overlay.nodes, 0)
    const applied = async (): Promise<readonly string[]> => {
      node.plane.forget()
      return at(await overlay.apply(), 0).faults
    }
    t.deepEqual(await applied(), [])
    overlay.run(node.netns, table('forward'))
    t.regex((await applied()).join(), /^chain HOST of the host's table ip filter/)
    const { bridge } = planeNames(node.id)
    overlay.run(node.netns, `nft add rule ip filter HOST oifname ${bridge} accept`)
    t.deepEqual(await applied(), [])
  },
)
