/**
 * Numbers of IPVS's generic netlink family. Source: `include/uapi/linux/ip_vs.h`; what is in
 * network order and what is not was measured against ipvsadm.
 */

/** Name of the family; asking for it loads the module. */
export const IPVS_FAMILY = 'IPVS'
export const IPVS_VERSION = 1

export const IPVS_CMD = {
  newService: 1,
  setService: 2,
  deleteService: 3,
  getService: 4,
  newDestination: 5,
  setDestination: 6,
  deleteDestination: 7,
  getDestination: 8,
  setConfig: 12,
  getConfig: 13,
  getInfo: 15,
  zero: 16,
  flush: 17,
} as const

/** Attributes of a command. */
export const CMD_ATTR = {
  service: 1,
  destination: 2,
  timeoutTcp: 4,
  timeoutTcpFin: 5,
  timeoutUdp: 6,
} as const

/** Attributes of the answer to `getInfo`. */
export const INFO_ATTR = { version: 1, connectionTableSize: 2 } as const

export const SERVICE_ATTR = {
  family: 1,
  protocol: 2,
  address: 3,
  /** Network order. */
  port: 4,
  mark: 5,
  scheduler: 6,
  /** Two u32: flags and mask. */
  flags: 7,
  timeout: 8,
  /** IPv4: a mask in network order; IPv6: a prefix length in host order. */
  netmask: 9,
  stats32: 10,
  stats64: 12,
} as const

export const DESTINATION_ATTR = {
  address: 1,
  /** Network order. */
  port: 2,
  method: 3,
  weight: 4,
  upperThreshold: 5,
  lowerThreshold: 6,
  activeConnections: 7,
  inactiveConnections: 8,
  persistentConnections: 9,
  stats32: 10,
  family: 11,
  stats64: 12,
  tunnelType: 13,
  /** Network order. */
  tunnelPort: 14,
  tunnelFlags: 15,
} as const

/** Flags of a service. `HASHED` is the kernel's own. The scheduler's two are sh's or mh's. */
export const SERVICE_FLAG = {
  persistent: 0x1,
  hashed: 0x2,
  onePacket: 0x4,
  schedulerFallback: 0x8,
  schedulerPort: 0x10,
} as const

export const FORWARDING = { masquerade: 0, local: 1, tunnel: 2, direct: 3, bypass: 4 } as const
export const TUNNEL_TYPE = { ipip: 0, gue: 1, gre: 2 } as const
export const PROTOCOL_NUMBER = { tcp: 6, udp: 17, sctp: 132 } as const
