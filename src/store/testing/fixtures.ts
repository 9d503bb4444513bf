/**
 * Small valid objects for tests of the store and of everything that reads it. Each takes the fields
 * that matter to the test; the rest are the simplest that working nodes would write.
 */
import type { Cluster, Node, Service, Task } from '../objects.ts'
import type { ServiceSpec, TaskSpec } from '../spec.ts'
import type { Store } from '../store.ts'
import type { Action, Draft, Transaction, TransactionResult } from '../transaction.ts'

/** A wall time for drafts; nothing decides by it. */
export const FIXTURE_TIME = '2026-01-01T00:00:00.000Z'

/** A ready, active worker with 4 CPUs and 4 GiB. */
export function nodeDraft(id: string, fields: Partial<Draft<Node>> = {}): Draft<Node> {
  return {
    id,
    spec: { Role: 'worker', Availability: 'active' },
    peerId: `peer-${id}`,
    addresses: ['/ip4/127.0.0.1/tcp/2377'],
    advertiseHost: '127.0.0.1',
    description: {
      hostname: `host-${id}`,
      platform: { os: 'linux', architecture: 'x86_64' },
      resources: { nanoCpus: 4e9, memoryBytes: 4 * 1024 ** 3 },
      engineVersion: '0.1.0',
      engineLabels: {},
      executor: { name: 'process', isolation: 'process', reason: 'fixture' },
      balancer: { name: 'nftables', reason: 'fixture' },
    },
    status: { state: 'ready', message: '' },
    ...fields,
  }
}

/** A template that runs `web:1`. */
export function taskSpec(fields: Partial<TaskSpec> = {}): TaskSpec {
  return { ContainerSpec: { Image: 'web:1' }, ...fields }
}

/** A replicated service spec. */
export function serviceSpec(
  name: string,
  replicas = 1,
  fields: Partial<ServiceSpec> = {},
): ServiceSpec {
  return {
    Name: name,
    TaskTemplate: taskSpec(),
    Mode: { Replicated: { Replicas: replicas } },
    ...fields,
  }
}

/** A service with that spec. */
export function serviceDraft(id: string, spec: ServiceSpec): Draft<Service> {
  return { id, spec, specVersion: 0 }
}

/** A running task in slot 1. */
export function taskDraft(id: string, fields: Partial<Draft<Task>> = {}): Draft<Task> {
  return {
    id,
    serviceId: 'service',
    slot: 1,
    nodeId: 'node',
    spec: taskSpec(),
    specVersion: 1,
    serviceName: 'web',
    desiredState: 'running',
    status: { state: 'running', timestamp: FIXTURE_TIME, message: 'started' },
    ports: [],
    attempt: 0,
    ...fields,
  }
}

/** The cluster with a pool for nodes' subnets. */
export function clusterDraft(fields: Partial<Draft<Cluster>> = {}): Draft<Cluster> {
  return {
    id: 'cluster',
    spec: { Name: 'default' },
    rootPublicKey: new Uint8Array(32),
    sealedSecrets: new Uint8Array(8),
    addressPools: ['10.0.0.0/8'],
    subnetSize: 24,
    ...fields,
  }
}

/** A transaction of `actions`. */
export function transactionOf(requestId: string, actions: readonly Action[]): Transaction {
  return { requestId, at: FIXTURE_TIME, actions }
}

/** Writes as Raft would, as one entry; whether the rules of the store let it happen. */
export function maybeWriteTo(store: Store, ...actions: readonly Action[]): boolean {
  return applyNext(store, actions).ok
}

/** Writes as Raft would, as one entry. Throws where a rule of the store refuses. */
export function writeTo(store: Store, ...actions: readonly Action[]): void {
  const result = applyNext(store, actions)
  if (!result.ok) throw new Error(result.message)
}

function applyNext(store: Store, actions: readonly Action[]): TransactionResult {
  const index = store.index + 1
  return store.applyTransaction(transactionOf(`r${index}`, actions), index)
}
