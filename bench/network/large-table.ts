/** A large table of virtual servers, as the drivers are given it. */
import type { VirtualServer } from '../../src/network/ports.ts'

export const SERVICES = 1_000
/** Of each. */
export const BACKENDS = 10

/** All of them. */
export function servers(): VirtualServer[] {
  return Array.from({ length: SERVICES }, (_unused, index) => server(index, 4))
}

/** One of them; its first backend has this weight. */
export function server(index: number, weight: number): VirtualServer {
  return {
    id: `service${index}/net`,
    protocol: 'any',
    address: `10.96.${index >> 8}.${index & 255}`,
    port: 0,
    backends: Array.from({ length: BACKENDS }, (_none, n) => ({
      taskId: `t${index}.${n}`,
      nodeId: 'n',
      local: false,
      routed: true,
      address: `10.${32 + (index >> 8)}.${index & 255}.${n + 1}`,
      port: 0,
      weight: n === 0 ? weight : 4,
    })),
  }
}
