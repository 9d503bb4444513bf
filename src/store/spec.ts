/**
 * Specs: what the user wants, in exactly the shape and spelling of the Docker Engine API (durations
 * in nanoseconds, CPUs in billionths). The user owns a spec: it is stored and given back as it
 * came, so `service update` (read, change one field, write back) loses nothing, known to us or not.
 * What Skein itself decides or observes stands beside the spec, in our own words (`objects.ts`).
 *
 * Validated at the border (`src/api/schemas/`); fields that Skein does not act on yet pass through.
 * Source: Docker Engine API 1.50; swarmkit `api/specs.proto`.
 */

/**
 * Labels: free text by key. Docker has no field for some of what Skein can do; it rides on
 * `skein.*`.
 */
export type Labels = Readonly<Record<string, string>>

/** What the user wants of a node. */
export interface NodeSpec {
  readonly Name?: string
  readonly Labels?: Labels
  readonly Role: 'manager' | 'worker'
  readonly Availability: 'active' | 'pause' | 'drain'
}

/** A bind mount, volume or tmpfs of a container. */
export interface MountSpec {
  readonly Type: 'bind' | 'volume' | 'tmpfs' | 'npipe' | 'cluster'
  readonly Source?: string
  readonly Target: string
  readonly ReadOnly?: boolean
  readonly BindOptions?: { readonly Propagation?: string; readonly CreateMountpoint?: boolean }
  readonly TmpfsOptions?: { readonly SizeBytes?: number; readonly Mode?: number }
}

/**
 * A command that says by its exit code whether a container is well. What is absent, empty or 0 is
 * as the image says, else Docker's default. Durations in nanoseconds.
 */
export interface HealthcheckSpec {
  /** `['NONE']`, `['CMD', program, …arguments]` or `['CMD-SHELL', line]`. */
  readonly Test?: readonly string[]
  /** Between the end of a check and the next; default 30 s. */
  readonly Interval?: number
  /** A check that takes longer is killed and has failed; default 30 s. */
  readonly Timeout?: number
  /** So many failures in a row make the container unhealthy; default 3. */
  readonly Retries?: number
  /** Failures in this time after the start do not count; default 0. */
  readonly StartPeriod?: number
  /** Instead of `Interval` in the start period, until a check passed; default 5 s. */
  readonly StartInterval?: number
}

/** How a container resolves names that the swarm does not know. */
export interface DnsConfig {
  /** Servers in place of its node's. */
  readonly Nameservers?: readonly string[]
  /** Domains that are tried behind names without a dot. */
  readonly Search?: readonly string[]
  /** `options` of resolv.conf(5). */
  readonly Options?: readonly string[]
}

/** What runs in the container. `Command` replaces the image's entry point, `Args` its arguments. */
export interface ContainerSpec {
  /** Reference, after create normally with a digest: `web:1@sha256:…`. */
  readonly Image: string
  readonly Labels?: Labels
  readonly Command?: readonly string[]
  readonly Args?: readonly string[]
  readonly Hostname?: string
  readonly Env?: readonly string[]
  readonly Dir?: string
  readonly User?: string
  readonly Groups?: readonly string[]
  readonly TTY?: boolean
  readonly OpenStdin?: boolean
  readonly ReadOnly?: boolean
  readonly Init?: boolean
  readonly StopSignal?: string
  /** Nanoseconds between the stop signal and SIGKILL; default 10 s. */
  readonly StopGracePeriod?: number
  readonly Healthcheck?: HealthcheckSpec
  readonly Mounts?: readonly MountSpec[]
  readonly Hosts?: readonly string[]
  readonly DNSConfig?: DnsConfig
  readonly Sysctls?: Readonly<Record<string, string>>
  readonly CapabilityAdd?: readonly string[]
  readonly CapabilityDrop?: readonly string[]
  readonly Ulimits?: readonly {
    readonly Name: string
    readonly Soft: number
    readonly Hard: number
  }[]
}

/** An amount of resources. */
export interface ResourceSpec {
  /** Billionths of a CPU. */
  readonly NanoCPUs?: number
  readonly MemoryBytes?: number
  /** Most processes; limits only. */
  readonly Pids?: number
}

/** When and how often a task that ended is replaced. */
export interface RestartPolicy {
  /** Default `any`. */
  readonly Condition?: 'none' | 'on-failure' | 'any'
  /** Nanoseconds; default 5 s. */
  readonly Delay?: number
  /** 0 = no limit. */
  readonly MaxAttempts?: number
  /** Nanoseconds in which attempts count; 0 = always. */
  readonly Window?: number
}

/** Where tasks may run. */
export interface Placement {
  /** `node.role==manager`, `node.labels.disk!=hdd` … */
  readonly Constraints?: readonly string[]
  readonly Preferences?: readonly { readonly Spread?: { readonly SpreadDescriptor: string } }[]
  /** 0 = no limit. */
  readonly MaxReplicas?: number
  readonly Platforms?: readonly { readonly Architecture?: string; readonly OS?: string }[]
}

/** The template of a service's tasks. */
export interface TaskSpec {
  readonly ContainerSpec: ContainerSpec
  readonly Resources?: { readonly Limits?: ResourceSpec; readonly Reservations?: ResourceSpec }
  readonly RestartPolicy?: RestartPolicy
  readonly Placement?: Placement
  readonly Networks?: readonly { readonly Target: string; readonly Aliases?: readonly string[] }[]
  readonly LogDriver?: { readonly Name?: string; readonly Options?: Labels }
  /** A counter; changing it replaces all tasks. */
  readonly ForceUpdate?: number
  readonly Runtime?: string
}

/** A published port. */
export interface PortConfig {
  readonly Name?: string
  readonly Protocol?: 'tcp' | 'udp' | 'sctp'
  readonly TargetPort: number
  /** 0 or absent: the allocator chooses from 30000–32767. */
  readonly PublishedPort?: number
  /** Default `ingress`. */
  readonly PublishMode?: 'ingress' | 'host'
}

/** How an update or rollback proceeds. Durations in nanoseconds. */
export interface UpdateConfig {
  readonly Parallelism?: number
  readonly Delay?: number
  readonly FailureAction?: 'pause' | 'continue' | 'rollback'
  readonly Monitor?: number
  readonly MaxFailureRatio?: number
  readonly Order?: 'stop-first' | 'start-first'
}

/** What the user wants of a service. Exactly one member of `Mode` is set. */
export interface ServiceSpec {
  readonly Name: string
  readonly Labels?: Labels
  readonly TaskTemplate: TaskSpec
  readonly Mode?: {
    readonly Replicated?: { readonly Replicas?: number }
    readonly Global?: object
    readonly ReplicatedJob?: { readonly MaxConcurrent?: number; readonly TotalCompletions?: number }
    readonly GlobalJob?: object
  }
  readonly UpdateConfig?: UpdateConfig
  readonly RollbackConfig?: UpdateConfig
  readonly Networks?: readonly { readonly Target: string; readonly Aliases?: readonly string[] }[]
  readonly EndpointSpec?: {
    readonly Mode?: 'vip' | 'dnsrr'
    readonly Ports?: readonly PortConfig[]
  }
}

/** One range of a network: what the user gave. */
export interface IpamConfig {
  readonly Subnet?: string
  readonly IPRange?: string
  readonly Gateway?: string
  readonly AuxiliaryAddresses?: Labels
}

/** What the user wants of a network. `Driver` defaults to `overlay`. */
export interface NetworkSpec {
  readonly Name: string
  readonly Labels?: Labels
  readonly Driver?: string
  /** Driver's settings; `com.docker.network.driver.mtu`, `parent` of a macvlan … */
  readonly Options?: Labels
  readonly Internal?: boolean
  readonly Attachable?: boolean
  readonly EnableIPv4?: boolean
  readonly EnableIPv6?: boolean
  readonly Scope?: string
  readonly IPAM?: {
    readonly Driver?: string
    readonly Options?: Labels | null
    readonly Config?: readonly IpamConfig[] | null
  }
}

/** Cluster-wide settings, Docker's `Spec` of `GET /swarm`. */
export interface ClusterSpec {
  readonly Name: string
  readonly Labels?: Labels
  readonly Orchestration?: { readonly TaskHistoryRetentionLimit?: number }
  readonly Raft?: {
    readonly SnapshotInterval?: number
    readonly KeepOldSnapshots?: number
    readonly LogEntriesForSlowFollowers?: number
    readonly ElectionTick?: number
    readonly HeartbeatTick?: number
  }
  readonly Dispatcher?: { readonly HeartbeatPeriod?: number }
  readonly CAConfig?: Readonly<Record<string, unknown>>
  readonly TaskDefaults?: Readonly<Record<string, unknown>>
  readonly EncryptionConfig?: { readonly AutoLockManagers?: boolean }
}
