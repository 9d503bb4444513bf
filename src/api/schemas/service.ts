/**
 * The shape of a service spec as clients send it. Types only: what a name, a port or a constraint may
 * be is checked by the command (`control/`). Members that Skein does not know pass through.
 * Source: Docker Engine API 1.50, `ServiceSpec`.
 */
import { z } from 'zod'
import type { ServiceSpec } from '../../store/spec.ts'
import { decode } from './decode.ts'

const labels = z.record(z.string(), z.string())
const texts = z.array(z.string())
const whole = z.int().nonnegative()
const port = z.int().min(0).max(65_535)

const mount = z.looseObject({
  Type: z.enum(['bind', 'volume', 'tmpfs', 'npipe', 'cluster']),
  Source: z.string().optional(),
  Target: z.string(),
  ReadOnly: z.boolean().optional(),
})

const containerSpec = z.looseObject({
  Image: z.string().default(''),
  Labels: labels.optional(),
  Command: texts.optional(),
  Args: texts.optional(),
  Hostname: z.string().optional(),
  Env: texts.optional(),
  Dir: z.string().optional(),
  User: z.string().optional(),
  Groups: texts.optional(),
  TTY: z.boolean().optional(),
  OpenStdin: z.boolean().optional(),
  ReadOnly: z.boolean().optional(),
  Init: z.boolean().optional(),
  StopSignal: z.string().optional(),
  StopGracePeriod: whole.optional(),
  Mounts: z.array(mount).optional(),
  Hosts: texts.optional(),
  Sysctls: labels.optional(),
  CapabilityAdd: texts.optional(),
  CapabilityDrop: texts.optional(),
})

const resources = z.looseObject({
  NanoCPUs: whole.optional(),
  MemoryBytes: whole.optional(),
  Pids: z.int().optional(),
})

const taskTemplate = z.looseObject({
  ContainerSpec: containerSpec.prefault({}),
  Resources: z
    .looseObject({ Limits: resources.optional(), Reservations: resources.optional() })
    .optional(),
  RestartPolicy: z
    .looseObject({
      Condition: z.enum(['none', 'on-failure', 'any', '']).optional(),
      Delay: whole.optional(),
      MaxAttempts: whole.optional(),
      Window: whole.optional(),
    })
    .optional(),
  Placement: z
    .looseObject({
      Constraints: texts.optional(),
      Preferences: z
        .array(
          z.looseObject({
            Spread: z.looseObject({ SpreadDescriptor: z.string() }).optional(),
          }),
        )
        .optional(),
      MaxReplicas: whole.optional(),
      Platforms: z
        .array(z.looseObject({ Architecture: z.string().optional(), OS: z.string().optional() }))
        .optional(),
    })
    .optional(),
  Networks: z.array(z.looseObject({ Target: z.string() })).optional(),
  ForceUpdate: whole.optional(),
  Runtime: z.string().optional(),
})

const updateConfig = z.looseObject({
  Parallelism: whole.optional(),
  Delay: whole.optional(),
  FailureAction: z.enum(['pause', 'continue', 'rollback', '']).optional(),
  Monitor: whole.optional(),
  MaxFailureRatio: z.number().min(0).max(1).optional(),
  Order: z.enum(['stop-first', 'start-first', '']).optional(),
})

const serviceSpec = z.looseObject({
  Name: z.string().default(''),
  Labels: labels.optional(),
  TaskTemplate: taskTemplate.prefault({}),
  Mode: z
    .looseObject({
      Replicated: z.looseObject({ Replicas: whole.optional() }).optional(),
      Global: z.looseObject({}).optional(),
      ReplicatedJob: z
        .looseObject({ MaxConcurrent: whole.optional(), TotalCompletions: whole.optional() })
        .optional(),
      GlobalJob: z.looseObject({}).optional(),
    })
    .optional(),
  UpdateConfig: updateConfig.optional(),
  RollbackConfig: updateConfig.optional(),
  Networks: z.array(z.looseObject({ Target: z.string() })).optional(),
  EndpointSpec: z
    .looseObject({
      Mode: z.enum(['vip', 'dnsrr', '']).optional(),
      Ports: z
        .array(
          z.looseObject({
            Name: z.string().optional(),
            Protocol: z.enum(['tcp', 'udp', 'sctp', '']).optional(),
            TargetPort: port.default(0),
            PublishedPort: port.optional(),
            PublishMode: z.enum(['ingress', 'host', '']).optional(),
          }),
        )
        .optional(),
    })
    .optional(),
})

/** A service spec with its mode made explicit. @throws INVALID_ARGUMENT */
export function decodeServiceSpec(body: unknown): ServiceSpec {
  const spec = decode<ServiceSpec>(serviceSpec, withoutEmptyChoices(body))
  return { ...spec, Mode: explicitMode(spec.Mode) }
}

/** No mode, and no count of replicas, mean one replica: clients refuse to show a spec without it. */
function explicitMode(mode: ServiceSpec['Mode']): NonNullable<ServiceSpec['Mode']> {
  if (mode === undefined || Object.keys(mode).length === 0) return { Replicated: { Replicas: 1 } }
  if (mode.Replicated === undefined) return mode
  return { ...mode, Replicated: { Replicas: 1, ...mode.Replicated } }
}

/** Members whose empty text means "not chosen", as some clients of Go's types send it. */
const CHOICES = new Set(['Condition', 'FailureAction', 'Order', 'Protocol', 'PublishMode'])

function withoutEmptyChoices(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutEmptyChoices)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name, member]) => !(member === '' && CHOICES.has(name)))
      .map(([name, member]) => [name, withoutEmptyChoices(member)]),
  )
}
