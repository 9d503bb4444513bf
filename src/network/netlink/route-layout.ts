/**
 * Numbers of rtnetlink. Sources: `include/uapi/linux/` `rtnetlink.h`, `if_link.h`, `if_addr.h`,
 * `neighbour.h`, `fib_rules.h`, `ip.h`.
 */

export const RTM = {
  newLink: 16,
  deleteLink: 17,
  getLink: 18,
  setLink: 19,
  newAddress: 20,
  deleteAddress: 21,
  getAddress: 22,
  newRoute: 24,
  deleteRoute: 25,
  getRoute: 26,
  newNeighbour: 28,
  deleteNeighbour: 29,
  getNeighbour: 30,
  newRule: 32,
  deleteRule: 33,
  getRule: 34,
} as const

/** Multicast groups, for `NetlinkMonitor.open`. */
export const RTNLGRP = {
  link: 1,
  neighbour: 3,
  ipv4Address: 5,
  ipv4Route: 7,
  ipv4Rule: 8,
  ipv6Address: 9,
  ipv6Route: 11,
  ipv6Rule: 19,
} as const

export const IFLA = {
  macAddress: 1,
  name: 3,
  mtu: 4,
  link: 5,
  master: 10,
  protocolInfo: 12,
  operationalState: 16,
  linkInfo: 18,
  alias: 20,
  stats64: 23,
  familySpecific: 26,
  netnsFd: 28,
} as const

export const INFO = { kind: 1, data: 2, portKind: 4, portData: 5 } as const
export const VETH_PEER = 1
export const VLAN_ID = 1
export const MACVLAN_MODE = 1
export const IPVLAN = { mode: 1, flags: 2 } as const

export const VXLAN = {
  id: 1,
  link: 3,
  localIpv4: 4,
  ttl: 5,
  learning: 7,
  /** Network order. */
  port: 15,
  localIpv6: 17,
  udpChecksum: 18,
  udpZeroChecksum6Send: 19,
  udpZeroChecksum6Receive: 20,
} as const

export const BRIDGE = {
  ageingTime: 4,
  stpState: 5,
  multicastSnooping: 23,
  callIptables: 36,
  callIp6tables: 37,
  callArptables: 38,
} as const

export const BRIDGE_PORT = {
  hairpin: 4,
  learning: 8,
  unicastFlood: 9,
  proxyArp: 10,
  neighbourSuppress: 32,
  isolated: 33,
} as const

/** Names as under `/proc/sys/net/ipv4/conf/DEVICE/`. */
export const IPV4_CONF = {
  forwarding: 1,
  proxy_arp: 3,
  accept_redirects: 4,
  send_redirects: 6,
  rp_filter: 8,
  arp_announce: 18,
  arp_ignore: 19,
  arp_notify: 22,
  accept_local: 23,
  src_valid_mark: 24,
  proxy_arp_pvlan: 25,
  route_localnet: 26,
} as const
export const INET_CONF = 1
export const INET6_ADDRESS_GENERATION = 8

/** Flags of a link. */
export const IFF_UP = 0x1
export const IFF_LOWER_UP = 0x1_0000

export const IFA = { address: 1, local: 2, flags: 8 } as const
export const IFA_F_NODAD = 0x2

export const RTA = {
  destination: 1,
  device: 4,
  gateway: 5,
  priority: 6,
  preferredSource: 7,
  metrics: 8,
  table: 15,
} as const
export const RTAX_MTU = 2
export const RTNH_F_ONLINK = 4
export const ROUTE_TYPE = {
  unicast: 1,
  local: 2,
  broadcast: 3,
  anycast: 4,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
} as const
export const ROUTE_SCOPE = { global: 0, site: 200, link: 253, host: 254, nowhere: 255 } as const
export const TABLE_MAIN = 254
export const TABLE_LOCAL = 255

export const FRA = {
  destination: 1,
  source: 2,
  inDevice: 3,
  priority: 6,
  mark: 10,
  suppressPrefixLength: 14,
  table: 15,
  mask: 16,
  outDevice: 17,
  protocol: 21,
} as const
export const FR_ACT_TO_TABLE = 1

export const NDA = { destination: 1, macAddress: 2, port: 6, vni: 7, device: 8, master: 9 } as const
export const NUD_NOARP = 0x40
export const NUD_PERMANENT = 0x80
export const NTF_SELF = 0x2
export const NTF_MASTER = 0x4
export const NTF_PROXY = 0x8
export const NTF_STICKY = 0x40
