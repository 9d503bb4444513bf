/**
 * Networks as Docker's API shows them: those that users made, and those that are always there.
 * Published ports belong to `ingress`; its id is the cluster's, so that it is the same on every
 * node and after every start. A network with IPv6 has a second range, behind the one of IPv4, as
 * Docker shows networks of two families. Source: recorded answers 320 to 341.
 */
import { INGRESS_NETWORK } from '../../control/network-commands.ts'
import { PREDEFINED_NETWORKS, driverOf } from '../../control/networks.ts'
import { ipv6Of, ipv6PrefixOf, ipv6RangeOf, isIpv6Network } from '../../store/ipv6.ts'
import type { Cluster, Network } from '../../store/objects.ts'
import type { StoreView } from '../../store/view.ts'

/** A network as `GET /networks` has it. */
export interface NetworkJson {
  readonly Name: string
  readonly Id: string
  readonly Scope: string
  readonly Driver: string
  readonly Labels: Readonly<Record<string, string>> | null
  readonly [member: string]: unknown
}

/** Label of networks that nobody made. */
const PREDEFINED_LABEL = 'com.docker.swarm.predefined'

/** All networks, in the order of their names. */
export function networkList(store: StoreView): readonly NetworkJson[] {
  const cluster = store.cluster()
  if (cluster === undefined) return []
  const all = [
    ingressJson(cluster),
    ...PREDEFINED_NETWORKS.map((name) => predefinedJson(name, cluster)),
    ...store.list('networks').map((network) => networkJson(network, cluster)),
  ]
  return all.toSorted((a, b) => (a.Name < b.Name ? -1 : 1))
}

/** Whether it is one that users made. */
export function isCustom(network: NetworkJson): boolean {
  return network['Ingress'] !== true && network.Labels?.[PREDEFINED_LABEL] === undefined
}

function networkJson(network: Network, cluster: Cluster): NetworkJson {
  const { spec } = network
  return {
    ...common(network.meta.createdAt),
    Name: spec.Name,
    Id: network.id,
    Scope: 'swarm',
    Driver: driverOf(network),
    EnableIPv4: spec.EnableIPv4 ?? true,
    EnableIPv6: spec.EnableIPv6 ?? false,
    IPAM: {
      Driver: spec.IPAM?.Driver ?? 'default',
      Options: null,
      Config: [...rangesOf(network), ...ipv6RangesOf(network, cluster)],
    },
    Internal: spec.Internal ?? false,
    Attachable: spec.Attachable ?? false,
    Options: spec.Options ?? {},
    Labels: spec.Labels ?? {},
  }
}

/** As allocated; as asked for until then. */
function rangesOf({ spec, subnet, gateway }: Network): object[] {
  const asked = spec.IPAM?.Config?.[0] ?? {}
  const { IPRange: part = '', AuxiliaryAddresses: reserved } = asked
  const range = {
    Subnet: subnet ?? asked.Subnet,
    ...(part === '' ? {} : { IPRange: part }),
    Gateway: gateway ?? asked.Gateway ?? '',
    ...(reserved === undefined ? {} : { AuxiliaryAddresses: reserved }),
  }
  return range.Subnet === undefined ? [] : [range]
}

/** The range that follows from the allocated one. */
function ipv6RangesOf(network: Network, cluster: Cluster): object[] {
  const { subnet, gateway } = network
  if (subnet === undefined || !isIpv6Network(network)) return []
  const prefix = ipv6PrefixOf(cluster.id)
  const Gateway = gateway === undefined ? '' : ipv6Of(prefix, gateway)
  return [{ Subnet: ipv6RangeOf(prefix, subnet), Gateway }]
}

function ingressJson(cluster: Cluster): NetworkJson {
  return {
    ...common(cluster.meta.createdAt),
    Name: INGRESS_NETWORK,
    Id: cluster.id,
    Scope: 'swarm',
    Driver: 'overlay',
    IPAM: {
      Driver: 'default',
      Options: null,
      Config: cluster.addressPools.map((pool) => ({ Subnet: pool })),
    },
    Ingress: true,
    Labels: {},
  }
}

function predefinedJson(name: string, cluster: Cluster): NetworkJson {
  return {
    ...common(cluster.meta.createdAt),
    Name: name,
    Id: name,
    Scope: 'swarm',
    Driver: name === 'none' ? 'null' : name,
    IPAM: { Driver: '', Options: null, Config: [] },
    Labels: { [PREDEFINED_LABEL]: 'true' },
  }
}

function common(createdAt: string): object {
  return {
    Created: createdAt,
    EnableIPv4: true,
    EnableIPv6: false,
    Internal: false,
    Attachable: false,
    Ingress: false,
    ConfigFrom: { Network: '' },
    ConfigOnly: false,
    Containers: {},
    Options: {},
  }
}
