/**
 * The ways of a request: straight to a backend, or through one of the balancers. A kernel driver
 * stands only while it is measured, so that its hooks cost the other ways nothing.
 */
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/log.ts'
import { IpvsBalancer } from '../../src/network/ipvs/ipvs-balancer.ts'
import { NftMarks } from '../../src/network/ipvs/nft-marks.ts'
import type { PacketMarks } from '../../src/network/ipvs/packet-marks.ts'
import { NftablesBalancer } from '../../src/network/nftables/balancer.ts'
import type { VirtualServer } from '../../src/network/ports.ts'
import { NODE_ADDRESS } from '../../src/network/testing/kernel-stage.ts'
import { IptablesMarks } from '../../cluster-tests/ipvs/iptables-marks.ts'
import { cpuMsOf } from './foreign.ts'
import { Proxy, TARGET_PORT, publishedPort } from './site.ts'
import type { Site } from './site.ts'

/** What a request can go through. */
export type WayName = 'direct' | 'ipvs' | 'nftables' | 'userspace'

/** A way, open for as long as it is measured. */
export interface Way {
  readonly url: string
  /** Processor time so far of the balancer, where it is a process. */
  readonly cpuMs?: () => number
  readonly close: () => Promise<void>
}

/** Kernels differ: User Mode Linux has IPVS and no nftables for IP, this machine the opposite. */
export const WAYS = {
  host: ['direct', 'nftables', 'userspace'],
  uml: ['direct', 'ipvs', 'userspace'],
  qemu: ['direct', 'ipvs', 'nftables', 'userspace'],
} as const satisfies Record<string, readonly WayName[]>

/** A kernel to measure in. */
export type Kernel = keyof typeof WAYS

const KERNEL_PORT = 7_000
const PROXY_PORT = 7_001
const TABLE = 'skein_bench_lb'
const CONNECTIONS_MAX = 16_384

/** Opens ways. */
export class Ways {
  readonly #site: Site
  readonly #kernel: Kernel
  readonly #proxy: Proxy

  private constructor(site: Site, kernel: Kernel, proxy: Proxy) {
    this.#site = site
    this.#kernel = kernel
    this.#proxy = proxy
  }

  /** The proxy's process runs all the time; it costs nothing while nobody asks it. */
  static async open(site: Site, kernel: Kernel): Promise<Ways> {
    const servers = [publishedPort(PROXY_PORT)]
    const proxy = await Proxy.start(site.stage, { servers, connectionsMax: CONNECTIONS_MAX })
    return new Ways(site, kernel, proxy)
  }

  async way(name: WayName): Promise<Way> {
    const nothing = (): Promise<void> => Promise.resolve()
    switch (name) {
      case 'direct':
        return { url: `http://10.32.0.2:${TARGET_PORT}/`, close: nothing }
      case 'userspace':
        return {
          url: `http://${NODE_ADDRESS}:${PROXY_PORT}/`,
          cpuMs: () => cpuMsOf(this.#proxy.process.pid ?? NaN),
          close: nothing,
        }
      case 'nftables':
        return this.#applied(await this.#nftables())
      case 'ipvs':
        return this.#applied(await this.#ipvs())
      default:
        return name satisfies never
    }
  }

  close(): Promise<void> {
    return this.#proxy.stop()
  }

  async #applied(balancer: NftablesBalancer | IpvsBalancer): Promise<Way> {
    const wanted: readonly VirtualServer[] = [publishedPort(KERNEL_PORT)]
    const faults = await balancer.apply(wanted)
    if (faults.length > 0) throw new Error(JSON.stringify(faults))
    const close = async (): Promise<void> => {
      await balancer.remove()
      await balancer.close()
    }
    return { url: `http://${NODE_ADDRESS}:${KERNEL_PORT}/`, close }
  }

  #nftables(): Promise<NftablesBalancer> {
    const { native, stage } = this.#site
    const components = { native, clock: systemClock, log: silentLogger }
    return NftablesBalancer.open(components, { table: TABLE, netns: stage.netns })
  }

  async #ipvs(): Promise<IpvsBalancer> {
    const { native, stage } = this.#site
    const { netns } = stage
    const marks: PacketMarks =
      this.#kernel === 'uml'
        ? new IptablesMarks(netns)
        : await NftMarks.open(native, { table: TABLE, netns })
    return IpvsBalancer.open({ native, clock: systemClock, log: silentLogger, marks }, { netns })
  }
}
