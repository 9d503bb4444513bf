/**
 * Services and their endpoints as Docker's API shows them. Source: recorded answers 254-258, 356.
 */
import type { ServiceCounts } from '../../control/commands.ts'
import { ipv6Of, ipv6PrefixOf, isIpv6Network } from '../../store/ipv6.ts'
import type { AllocatedPort, Network, Service } from '../../store/objects.ts'
import type { ServiceSpec, UpdateConfig } from '../../store/spec.ts'
import type { StoreView } from '../../store/view.ts'

/** Bits of an address. */
const IPV4_BITS = 32
const IPV6_BITS = 128

/** One service; `insertDefaults` fills in what the user left to Skein. */
export function serviceJson(
  service: Service,
  store: StoreView,
  options: { readonly insertDefaults?: boolean; readonly counts?: ServiceCounts } = {},
): object {
  const spec = options.insertDefaults === true ? withServiceDefaults(service.spec) : service.spec
  return {
    ID: service.id,
    Version: { Index: service.meta.version },
    CreatedAt: service.meta.createdAt,
    UpdatedAt: service.meta.updatedAt,
    Spec: { ...spec, Labels: spec.Labels ?? {} },
    ...(service.previousSpec === undefined ? {} : { PreviousSpec: service.previousSpec }),
    Endpoint: endpointJson(service, store),
    ...(service.updateStatus === undefined ? {} : { UpdateStatus: updateStatusJson(service) }),
    ...(options.counts === undefined ? {} : { ServiceStatus: countsJson(options.counts) }),
  }
}

/** A port in Docker's spelling. */
export function portJson(port: AllocatedPort): object {
  return {
    ...(port.name === undefined ? {} : { Name: port.name }),
    Protocol: port.protocol,
    TargetPort: port.targetPort,
    PublishedPort: port.publishedPort,
    PublishMode: port.publishMode,
  }
}

function endpointJson(service: Service, store: StoreView): object {
  if (service.endpoint === undefined) return { Spec: {} }
  const ports = service.endpoint.ports.map(portJson)
  const addresses = virtualAddresses(service, store)
  if (ports.length === 0 && addresses.length === 0) return { Spec: {} }
  return {
    Spec: service.spec.EndpointSpec ?? {},
    ...(ports.length === 0 ? {} : { Ports: ports }),
    ...(addresses.length === 0 ? {} : { VirtualIPs: addresses }),
  }
}

/** Those of IPv4 first: clients that know one address of a service take the first. */
function virtualAddresses(service: Service, store: StoreView): object[] {
  const all = service.endpoint?.virtualAddresses ?? []
  const ipv4 = all.map(({ networkId, address }) => ({
    NetworkID: networkId,
    Addr: withPrefix(address, store.get('networks', networkId)),
  }))
  const ipv6 = all.flatMap(({ networkId, address }) => {
    const network = store.get('networks', networkId)
    if (!isIpv6Network(network)) return []
    return ipv6WithPrefix(address, network, store).map((Addr) => ({ NetworkID: networkId, Addr }))
  })
  return [...ipv4, ...ipv6]
}

/** `10.0.1.2/24` of an address on a network. */
export function withPrefix(address: string, network: Network | undefined): string {
  return `${address}/${network?.subnet?.split('/')[1] ?? IPV4_BITS}`
}

/** The same of the IPv6 address that belongs to an IPv4 one; none outside a cluster. */
export function ipv6WithPrefix(
  address: string,
  network: Network | undefined,
  store: StoreView,
): readonly string[] {
  const cluster = store.cluster()
  if (cluster === undefined) return []
  const bits = IPV6_BITS - IPV4_BITS + Number(network?.subnet?.split('/')[1] ?? IPV4_BITS)
  return [`${ipv6Of(ipv6PrefixOf(cluster.id), address)}/${bits}`]
}

function updateStatusJson(service: Service): object {
  const status = service.updateStatus
  return {
    State: status?.state,
    StartedAt: status?.startedAt,
    ...(status?.completedAt === undefined ? {} : { CompletedAt: status.completedAt }),
    Message: status?.message,
  }
}

function countsJson(counts: ServiceCounts): object {
  return {
    RunningTasks: counts.runningTasks,
    DesiredTasks: counts.desiredTasks,
    CompletedTasks: counts.completedTasks,
  }
}

const UPDATE_DEFAULTS: UpdateConfig = {
  Parallelism: 1,
  FailureAction: 'pause',
  Monitor: 5_000_000_000,
  MaxFailureRatio: 0,
  Order: 'stop-first',
}

/** The spec as it acts (`?insertDefaults=true`). */
function withServiceDefaults(spec: ServiceSpec): ServiceSpec {
  const template = spec.TaskTemplate
  return {
    ...spec,
    TaskTemplate: {
      ...template,
      ContainerSpec: { StopGracePeriod: 10_000_000_000, ...template.ContainerSpec },
      RestartPolicy: {
        Condition: 'any',
        Delay: 5_000_000_000,
        MaxAttempts: 0,
        ...template.RestartPolicy,
      },
      Resources: { Limits: {}, Reservations: {}, ...template.Resources },
      Placement: template.Placement ?? {},
      Runtime: template.Runtime ?? 'container',
    },
    UpdateConfig: { ...UPDATE_DEFAULTS, ...spec.UpdateConfig },
    RollbackConfig: { ...UPDATE_DEFAULTS, ...spec.RollbackConfig },
    EndpointSpec: { Mode: 'vip', ...spec.EndpointSpec },
  }
}
