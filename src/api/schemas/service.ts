/**
 * The shape of a service spec as clients send it. Types only: what a name, a port or a constraint
 * may be is checked by the command (`control/`). Members that Skein does not know pass through.
 * Source: Docker Engine API 1.50, `ServiceSpec`.
 */
import { z } from 'zod'
import type { ServiceSpec } from '../../store/spec.ts'
import { decode } from './decode.ts'

const labels = z.record(z.string(), z.string())
const texts = z.array(z.string())
const whole = z.int().nonnegative()
const port = z.int().min(0).max(65_535)

const networks = z.array(z.looseObject({ Target: z.string(), Aliases: texts.exactOptional() }))

const mount = z.looseObject({
  Type: z.enum(['bind', 'volume', 'tmpfs', 'npipe', 'cluster']),
  Source: z.string().exactOptional(),
  Target: z.string(),
  ReadOnly: z.boolean().exactOptional(),
})

const healthcheck = z.looseObject({
  Test: texts.exactOptional(),
  Interval: z.int().exactOptional(),
  Timeout: z.int().exactOptional(),
  Retries: z.int().exactOptional(),
  StartPeriod: z.int().exactOptional(),
  StartInterval: z.int().exactOptional(),
})

const containerSpec = z.looseObject({
  Image: z.string().default(''),
  Labels: labels.exactOptional(),
  Command: texts.exactOptional(),
  Args: texts.exactOptional(),
  Hostname: z.string().exactOptional(),
  Env: texts.exactOptional(),
  Dir: z.string().exactOptional(),
  User: z.string().exactOptional(),
  Groups: texts.exactOptional(),
  TTY: z.boolean().exactOptional(),
  OpenStdin: z.boolean().exactOptional(),
  ReadOnly: z.boolean().exactOptional(),
  Init: z.boolean().exactOptional(),
  StopSignal: z.string().exactOptional(),
  StopGracePeriod: whole.exactOptional(),
  Healthcheck: healthcheck.exactOptional(),
  Mounts: z.array(mount).exactOptional(),
  Hosts: texts.exactOptional(),
  DNSConfig: z
    .looseObject({
      Nameservers: texts.exactOptional(),
      Search: texts.exactOptional(),
      Options: texts.exactOptional(),
    })
    .exactOptional(),
  Sysctls: labels.exactOptional(),
  CapabilityAdd: texts.exactOptional(),
  CapabilityDrop: texts.exactOptional(),
})

const resources = z.looseObject({
  NanoCPUs: whole.exactOptional(),
  MemoryBytes: whole.exactOptional(),
  Pids: z.int().exactOptional(),
})

const taskTemplate = z.looseObject({
  ContainerSpec: containerSpec.prefault({}),
  Resources: z
    .looseObject({ Limits: resources.exactOptional(), Reservations: resources.exactOptional() })
    .exactOptional(),
  RestartPolicy: z
    .looseObject({
      Condition: z.enum(['none', 'on-failure', 'any']).exactOptional(),
      Delay: whole.exactOptional(),
      MaxAttempts: whole.exactOptional(),
      Window: whole.exactOptional(),
    })
    .exactOptional(),
  Placement: z
    .looseObject({
      Constraints: texts.exactOptional(),
      Preferences: z
        .array(
          z.looseObject({
            Spread: z.looseObject({ SpreadDescriptor: z.string() }).exactOptional(),
          }),
        )
        .exactOptional(),
      MaxReplicas: whole.exactOptional(),
      Platforms: z
        .array(
          z.looseObject({
            Architecture: z.string().exactOptional(),
            OS: z.string().exactOptional(),
          }),
        )
        .exactOptional(),
    })
    .exactOptional(),
  Networks: networks.exactOptional(),
  ForceUpdate: whole.exactOptional(),
  Runtime: z.string().exactOptional(),
})

const updateConfig = z.looseObject({
  Parallelism: whole.exactOptional(),
  Delay: whole.exactOptional(),
  FailureAction: z.enum(['pause', 'continue', 'rollback']).exactOptional(),
  Monitor: whole.exactOptional(),
  MaxFailureRatio: z.number().min(0).max(1).exactOptional(),
  Order: z.enum(['stop-first', 'start-first']).exactOptional(),
})

const serviceSpec = z.looseObject({
  Name: z.string().default(''),
  Labels: labels.exactOptional(),
  TaskTemplate: taskTemplate.prefault({}),
  Mode: z
    .looseObject({
      Replicated: z.looseObject({ Replicas: whole.exactOptional() }).exactOptional(),
      Global: z.looseObject({}).exactOptional(),
      ReplicatedJob: z
        .looseObject({
          MaxConcurrent: whole.exactOptional(),
          TotalCompletions: whole.exactOptional(),
        })
        .exactOptional(),
      GlobalJob: z.looseObject({}).exactOptional(),
    })
    .exactOptional(),
  UpdateConfig: updateConfig.exactOptional(),
  RollbackConfig: updateConfig.exactOptional(),
  Networks: networks.exactOptional(),
  EndpointSpec: z
    .looseObject({
      Mode: z.enum(['vip', 'dnsrr']).exactOptional(),
      Ports: z
        .array(
          z.looseObject({
            Name: z.string().exactOptional(),
            Protocol: z.enum(['tcp', 'udp', 'sctp']).exactOptional(),
            TargetPort: port.default(0),
            PublishedPort: port.exactOptional(),
            PublishMode: z.enum(['ingress', 'host']).exactOptional(),
          }),
        )
        .exactOptional(),
    })
    .exactOptional(),
})

/** A service spec with its mode made explicit. @throws INVALID_ARGUMENT */
export function decodeServiceSpec(body: unknown): ServiceSpec {
  const spec = decode(serviceSpec, withoutEmptyChoices(body))
  return { ...spec, Mode: explicitMode(spec.Mode) }
}

/**
 * No mode, and no count of replicas, mean one replica: clients refuse to show a spec without it.
 */
function explicitMode(mode: ServiceSpec['Mode']): NonNullable<ServiceSpec['Mode']> {
  if (mode === undefined || Object.keys(mode).length === 0) return { Replicated: { Replicas: 1 } }
  if (mode.Replicated === undefined) return mode
  return { ...mode, Replicated: { Replicas: 1, ...mode.Replicated } }
}

/** Members whose empty text means "not chosen", as some clients of Go's types send it. */
const CHOICES = new Set(['Condition', 'FailureAction', 'Mode', 'Order', 'Protocol', 'PublishMode'])

function withoutEmptyChoices(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutEmptyChoices)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name, member]) => !(member === '' && CHOICES.has(name)))
      .map(([name, member]) => [name, withoutEmptyChoices(member)]),
  )
}
