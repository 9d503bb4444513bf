/**
 * The calls that commands make, with the members of the answers that they read. The daemon is
 * trusted to answer in Docker's shape: this is the one place where its JSON gets a type.
 */
import type { ClusterSpec, NetworkSpec, NodeSpec, ServiceSpec } from '../store/spec.ts'
import type { ApiClient, Query } from './connection.ts'

/** What all objects of a swarm have. */
export interface ObjectJson {
  readonly ID: string
  readonly Version: { readonly Index: number }
  readonly CreatedAt: string
}

/** A node. */
export interface NodeJson extends ObjectJson {
  readonly Spec: NodeSpec
  readonly Description: {
    readonly Hostname: string
    readonly Engine: {
      readonly EngineVersion: string
      readonly Labels?: Readonly<Record<string, string>>
    }
    readonly Platform: { readonly OS: string; readonly Architecture: string }
    readonly Resources: { readonly NanoCPUs: number; readonly MemoryBytes: number }
    readonly TLSInfo?: { readonly TrustRoot?: string }
  }
  readonly Status: { readonly State: string; readonly Addr: string; readonly Message?: string }
  readonly ManagerStatus?: {
    readonly Leader?: boolean
    readonly Reachability: string
    readonly Addr: string
  }
}

/** A published port. */
export interface PortJson {
  readonly Protocol: string
  readonly TargetPort: number
  readonly PublishedPort: number
  readonly PublishMode: string
}

/** A service. */
export interface ServiceJson extends ObjectJson {
  readonly Spec: ServiceSpec
  readonly Endpoint: { readonly Ports?: readonly PortJson[] }
  readonly ServiceStatus?: {
    readonly RunningTasks: number
    readonly DesiredTasks: number
    readonly CompletedTasks: number
  }
  readonly UpdateStatus?: { readonly State: string; readonly Message: string }
}

/** A task. */
export interface TaskJson extends ObjectJson {
  readonly Spec: ServiceSpec['TaskTemplate']
  readonly ServiceID: string
  readonly Slot?: number
  readonly NodeID?: string
  readonly DesiredState: string
  readonly Status: {
    readonly Timestamp: string
    readonly State: string
    readonly Message: string
    readonly Err?: string
    readonly PortStatus: { readonly Ports?: readonly PortJson[] }
  }
}

/** The swarm. */
export interface SwarmJson extends ObjectJson {
  readonly Spec: ClusterSpec
  readonly JoinTokens: { readonly Worker: string; readonly Manager: string }
}

/** What is read of `GET /info`; all of it is printed by `info --format json`. */
export interface InfoJson {
  readonly Name: string
  readonly ServerVersion: string
  readonly Containers: number
  readonly ContainersRunning: number
  readonly ContainersStopped: number
  readonly Images: number
  readonly DriverStatus: readonly (readonly [string, string])[]
  readonly KernelVersion: string
  readonly OperatingSystem: string
  readonly OSType: string
  readonly Architecture: string
  readonly NCPU: number
  readonly MemTotal: number
  readonly CgroupVersion: string
  readonly DockerRootDir: string
  readonly Warnings: readonly string[] | null
  readonly Swarm: {
    readonly NodeID: string
    readonly NodeAddr: string
    readonly LocalNodeState: string
    readonly ControlAvailable: boolean
    readonly Error: string
    readonly RemoteManagers: readonly { readonly Addr: string }[] | null
    readonly Nodes?: number
    readonly Managers?: number
    readonly Cluster?: ObjectJson & { readonly TLSInfo: { readonly TrustRoot?: string } }
  }
}

/** An image. */
export interface ImageJson {
  readonly Id: string
  readonly Created: number
  readonly Size: number
  readonly RepoTags: readonly string[]
  readonly RepoDigests: readonly string[]
}

/** A network. */
export interface NetworkJson {
  readonly Id: string
  readonly Name: string
  readonly Driver: string
  readonly Scope: string
  readonly Internal: boolean
  readonly IPAM: { readonly Config?: readonly { readonly Subnet: string }[] | null }
}

/** Filters in the encoding of Docker's clients. */
export function filterQuery(filters: Readonly<Record<string, readonly string[]>>): Query {
  const entries = Object.entries(filters).filter(([, values]) => values.length > 0)
  if (entries.length === 0) return {}
  const encoded = entries.map(([key, values]) => [
    key,
    Object.fromEntries(values.map((value) => [value, true])),
  ])
  return { filters: JSON.stringify(Object.fromEntries(encoded)) }
}

/** Typed calls of one client. */
export class SwarmApi {
  readonly client: ApiClient

  constructor(client: ApiClient) {
    this.client = client
  }

  nodes(query: Query = {}): Promise<NodeJson[]> {
    return this.#get('/nodes', query)
  }

  node(reference: string): Promise<NodeJson> {
    return this.#get(`/nodes/${encodeURIComponent(reference)}`)
  }

  services(query: Query = {}): Promise<ServiceJson[]> {
    return this.#get('/services', query)
  }

  service(reference: string, query: Query = {}): Promise<ServiceJson> {
    return this.#get(`/services/${encodeURIComponent(reference)}`, query)
  }

  task(reference: string): Promise<TaskJson> {
    return this.#get(`/tasks/${encodeURIComponent(reference)}`)
  }

  tasks(query: Query = {}): Promise<TaskJson[]> {
    return this.#get('/tasks', query)
  }

  swarm(): Promise<SwarmJson> {
    return this.#get('/swarm')
  }

  info(): Promise<InfoJson> {
    return this.#get('/info')
  }

  images(query: Query = {}): Promise<ImageJson[]> {
    return this.#get('/images/json', query)
  }

  createService(spec: ServiceSpec): Promise<{ readonly ID: string; readonly Warnings?: string[] }> {
    return decoded(this.client.call('POST', '/services/create', { body: spec }))
  }

  async updateService(service: ServiceJson, spec: ServiceSpec): Promise<void> {
    const query = { version: String(service.Version.Index) }
    await this.client.call('POST', `/services/${service.ID}/update`, { query, body: spec })
  }

  /** Back to the spec before the last update. */
  async rollBackService(service: ServiceJson): Promise<void> {
    const query = { version: String(service.Version.Index), rollback: 'previous' }
    const path = `/services/${service.ID}/update`
    await this.client.call('POST', path, { query, body: service.Spec })
  }

  async updateNode(node: NodeJson, spec: NodeSpec): Promise<void> {
    const query = { version: String(node.Version.Index) }
    await this.client.call('POST', `/nodes/${node.ID}/update`, { query, body: spec })
  }

  networks(query: Query = {}): Promise<NetworkJson[]> {
    return this.#get('/networks', query)
  }

  network(reference: string, query: Query = {}): Promise<NetworkJson> {
    return this.#get(`/networks/${encodeURIComponent(reference)}`, query)
  }

  createNetwork(spec: NetworkSpec): Promise<{ readonly Id: string }> {
    return decoded(this.client.call('POST', '/networks/create', { body: spec }))
  }

  /** Names of the networks that are gone. */
  async pruneNetworks(query: Query = {}): Promise<readonly string[]> {
    const answer: { readonly NetworksDeleted: readonly string[] | null } = await decoded(
      this.client.call('POST', '/networks/prune', { query }),
    )
    return answer.NetworksDeleted ?? []
  }

  removeImage(reference: string, query: Query): Promise<{ Untagged?: string; Deleted?: string }[]> {
    return decoded(
      this.client.call('DELETE', `/images/${encodeURIComponent(reference)}`, { query }),
    )
  }

  /** `self` is this daemon's node. */
  async nodeReference(reference: string): Promise<string> {
    if (reference !== 'self') return reference
    const { Swarm: swarm } = await this.info()
    return swarm.NodeID === '' ? reference : swarm.NodeID
  }

  #get<T>(path: string, query: Query = {}): Promise<T> {
    return decoded(this.client.get(path, query))
  }
}
async function decoded<T>(answer: Promise<unknown>): Promise<T> {
  return (await answer) as T
}
