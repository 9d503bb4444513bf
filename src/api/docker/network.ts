/**
 * Networks: Skein has one, on which every task is; clients know it by Docker's name `ingress`. Its
 * id is the cluster's, so that it is the same on every node and after every start.
 */
import type { Cluster } from '../../store/objects.ts'

/** Docker's name of the network that published ports belong to. */
export const INGRESS_NAME = 'ingress'

/** One element of `GET /networks`. */
export function ingressJson(cluster: Cluster): object {
  return {
    Name: INGRESS_NAME,
    Id: cluster.id,
    Created: cluster.meta.createdAt,
    Scope: 'swarm',
    Driver: 'overlay',
    EnableIPv4: true,
    EnableIPv6: false,
    IPAM: {
      Driver: 'default',
      Options: null,
      Config: cluster.addressPools.map((pool) => ({ Subnet: pool })),
    },
    Internal: false,
    Attachable: false,
    Ingress: true,
    ConfigFrom: { Network: '' },
    ConfigOnly: false,
    Containers: {},
    Options: {},
    Labels: {},
  }
}
