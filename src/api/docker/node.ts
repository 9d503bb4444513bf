/**
 * A node as Docker's API shows it. Source: swarmkit `api/objects.proto`; recorded answers 210, 225.
 */
import { createPublicKey } from 'node:crypto'
import type { Cluster, Node, NodeDescription } from '../../store/objects.ts'
import type { SwarmControl } from '../ports.ts'

/** What the reader of a node must know beyond the object. */
export interface NodeViewer {
  readonly swarm: Pick<SwarmControl, 'status' | 'leaderId' | 'reachability'>
  readonly cluster: Cluster | undefined
}

/** Port that a manager's address gets when none is known. */
const SWARM_PORT_DEFAULT = 2377

/** One element of `GET /nodes`. */
export function nodeJson(node: Node, viewer: NodeViewer): object {
  return {
    ID: node.id,
    Version: { Index: node.meta.version },
    CreatedAt: node.meta.createdAt,
    UpdatedAt: node.meta.updatedAt,
    Spec: { ...node.spec, Labels: node.spec.Labels ?? {} },
    Description: descriptionJson(node.description, viewer.cluster),
    Status: {
      State: node.status.state,
      ...(node.status.message === '' ? {} : { Message: node.status.message }),
      Addr: node.advertiseHost,
    },
    ...(node.spec.Role === 'manager' ? { ManagerStatus: managerJson(node, viewer) } : {}),
  }
}

/** `host:port` at which a node's swarm port answers, as far as known. */
export function swarmAddress(node: Node, swarm: Pick<SwarmControl, 'status'>): string {
  const known = swarm.status().remoteManagers.find((manager) => manager.nodeId === node.id)
  if (known !== undefined && known.address !== '') return known.address
  const port = node.addresses.map((address) => /\/tcp\/(\d+)/.exec(address)?.[1]).find(Boolean)
  const host = node.advertiseHost.includes(':') ? `[${node.advertiseHost}]` : node.advertiseHost
  return `${host}:${port ?? SWARM_PORT_DEFAULT}`
}

/** Docker's `TLSInfo` made of the cluster's root key: the docker CLI compares it between nodes. */
export function tlsInfoJson(cluster: Cluster | undefined): object {
  if (cluster === undefined) return {}
  const key = createPublicKey({
    format: 'jwk',
    key: {
      kty: 'OKP',
      crv: 'Ed25519',
      x: Buffer.from(cluster.rootPublicKey).toString('base64url'),
    },
  })
  return {
    TrustRoot: key.export({ type: 'spki', format: 'pem' }),
    CertIssuerSubject: CERTIFICATE_ISSUER.toString('base64'),
    CertIssuerPublicKey: key.export({ type: 'spki', format: 'der' }).toString('base64'),
  }
}

/** DER of the distinguished name `CN=skein-ca`. */
const CERTIFICATE_ISSUER = Buffer.concat([
  Buffer.from('30133111300f06035504031308', 'hex'),
  Buffer.from('skein-ca'),
])

function managerJson(node: Node, { swarm }: NodeViewer): object {
  const own = swarm.status().nodeId === node.id
  return {
    ...(swarm.leaderId() === node.id ? { Leader: true } : {}),
    Reachability: own ? 'reachable' : swarm.reachability(node.id),
    Addr: swarmAddress(node, swarm),
  }
}

function descriptionJson(description: NodeDescription, cluster: Cluster | undefined): object {
  return {
    Hostname: description.hostname,
    Platform: {
      Architecture: description.platform.architecture,
      OS: description.platform.os,
    },
    Resources: {
      NanoCPUs: description.resources.nanoCpus,
      MemoryBytes: description.resources.memoryBytes,
    },
    Engine: {
      EngineVersion: description.engineVersion,
      Labels: { ...description.engineLabels, ...driverLabels(description) },
      Plugins: [
        { Type: 'Log', Name: 'json-file' },
        { Type: 'Network', Name: 'bridge' },
        { Type: 'Volume', Name: 'local' },
      ],
    },
    TLSInfo: tlsInfoJson(cluster),
  }
}

/** How the node runs tasks and balances, where Docker's clients show it: as engine labels. */
export function driverLabels(description: NodeDescription): Record<string, string> {
  return {
    'skein.executor': description.executor.name,
    'skein.executor.isolation': description.executor.isolation,
    'skein.executor.reason': description.executor.reason,
    'skein.balancer': description.balancer.name,
    'skein.balancer.reason': description.balancer.reason,
  }
}
