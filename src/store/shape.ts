/**
 * The least shape that stored objects and actions must have for every replica's code to be safe on
 * them. Not validation of users' input, which is the API's: this refuses what no working node
 * sends, the same way everywhere. Unknown fields pass (a newer node may know them).
 */
import { SwarmError } from '../base/errors.ts'
import { TASK_STATES, type TableName } from './objects.ts'
import { isRecord, type PlainRecord } from './plain-value.ts'
import { TRANSACTION_ACTIONS_MAX, type Transaction } from './transaction.ts'

/** Longest identifier or request id, in characters. */
export const STORED_ID_LENGTH_MAX = 64

/** Says what is wrong with a value, or nothing. */
type Rule = (value: unknown) => string | undefined

const text: Rule = (value) => (typeof value === 'string' ? undefined : 'is no text')
const flagless: Rule = (value) => (isRecord(value) ? undefined : 'is no record')
const bytes: Rule = (value) => (value instanceof Uint8Array ? undefined : 'is no byte array')
const natural: Rule = (value) =>
  Number.isSafeInteger(value) && Number(value) >= 0 ? undefined : 'is no natural number'
const identifier: Rule = (value) =>
  typeof value === 'string' && value.length > 0 && value.length <= STORED_ID_LENGTH_MAX
    ? undefined
    : 'is no identifier'

function oneOf(values: readonly string[]): Rule {
  return (value) =>
    typeof value === 'string' && values.includes(value)
      ? undefined
      : `is none of ${values.join(', ')}`
}

function listOf(rule: Rule): Rule {
  return (value) => {
    if (!Array.isArray(value)) return 'is no list'
    for (const item of value as readonly unknown[]) {
      const wrong = rule(item)
      if (wrong !== undefined) return `has an item that ${wrong}`
    }
    return undefined
  }
}

function maybe(rule: Rule): Rule {
  // Go's clients write null where they mean nothing.
  return (value) => (value === undefined || value === null ? undefined : rule(value))
}

function fields(rules: Readonly<Record<string, Rule>>): Rule {
  const entries = Object.entries(rules)
  return (value) => {
    if (!isRecord(value)) return 'is no record'
    for (const [name, rule] of entries) {
      const wrong = rule(value[name])
      if (wrong !== undefined) return `field ${name} ${wrong}`
    }
    return undefined
  }
}

const description = fields({
  hostname: text,
  platform: fields({ os: text, architecture: text }),
  resources: fields({ nanoCpus: natural, memoryBytes: natural }),
  engineLabels: flagless,
  addresses: maybe(listOf(text)),
})

const status = fields({
  state: oneOf(TASK_STATES.filter((state) => state !== 'remove')),
  timestamp: text,
  message: text,
  err: maybe(text),
})

const ports = listOf(
  fields({
    protocol: oneOf(['tcp', 'udp', 'sctp']),
    targetPort: natural,
    publishedPort: natural,
    publishMode: oneOf(['ingress', 'host']),
  }),
)

const attachments = maybe(
  listOf(fields({ networkId: identifier, aliases: listOf(text), address: maybe(text) })),
)

const taskSpec = fields({
  ContainerSpec: fields({ Image: text }),
  Placement: maybe(fields({ Constraints: maybe(listOf(text)) })),
})

const objectRules: { readonly [T in TableName]: Rule } = {
  cluster: fields({
    id: identifier,
    spec: fields({ Name: text }),
    rootPublicKey: bytes,
    sealedSecrets: bytes,
    addressPools: listOf(text),
    subnetSize: natural,
  }),
  nodes: fields({
    id: identifier,
    spec: fields({
      Role: oneOf(['manager', 'worker']),
      Availability: oneOf(['active', 'pause', 'drain']),
      Labels: maybe(flagless),
    }),
    peerId: text,
    addresses: listOf(text),
    advertiseHost: text,
    description,
    status: fields({ state: oneOf(['unknown', 'ready', 'down']), message: text }),
    subnet: maybe(text),
  }),
  networks: fields({
    id: identifier,
    spec: fields({ Name: text, Driver: maybe(text), IPAM: maybe(flagless) }),
    subnet: maybe(text),
    gateway: maybe(text),
  }),
  services: fields({
    id: identifier,
    spec: fields({
      Name: text,
      TaskTemplate: taskSpec,
      Mode: maybe(flagless),
      EndpointSpec: maybe(fields({ Ports: maybe(listOf(fields({ TargetPort: natural }))) })),
    }),
    endpoint: maybe(
      fields({
        ports,
        allocatedFor: natural,
        virtualAddresses: maybe(listOf(fields({ networkId: identifier, address: text }))),
        networks: attachments,
      }),
    ),
    updateStatus: maybe(fields({ state: text, startedAt: text, message: text })),
  }),
  tasks: fields({
    id: identifier,
    serviceId: identifier,
    slot: natural,
    nodeId: text,
    spec: taskSpec,
    specVersion: natural,
    serviceName: text,
    desiredState: oneOf(TASK_STATES),
    status,
    address: maybe(text),
    networks: attachments,
    ports,
    predecessor: maybe(identifier),
    attempt: natural,
    restartDelay: maybe(natural),
  }),
}

const tableName = oneOf(Object.keys(objectRules))

const actionRules: Readonly<Record<string, Rule>> = {
  create: fields({ table: tableName, object: flagless }),
  update: fields({ table: tableName, object: flagless, version: natural }),
  remove: fields({ table: tableName, id: identifier, version: maybe(natural) }),
  observeTask: fields({ id: identifier, nodeId: identifier, status }),
  desireTask: fields({ id: identifier, desiredState: oneOf(TASK_STATES) }),
  observeNode: fields({
    id: identifier,
    description,
    addresses: listOf(text),
    advertiseHost: text,
  }),
  restartTask: fields({
    predecessor: identifier,
    nodeId: identifier,
    status,
    successorStatus: status,
  }),
}

const header = fields({ requestId: identifier, at: text, actions: listOf(flagless) })

/** `value` as a transaction. @throws INVALID_ARGUMENT naming the first thing that is wrong */
export function asTransaction(value: unknown): Transaction {
  const wrong = header(value)
  if (wrong !== undefined) throw refusal(wrong)
  const transaction = value as Transaction
  if (transaction.actions.length > TRANSACTION_ACTIONS_MAX) {
    throw refusal(`more than ${TRANSACTION_ACTIONS_MAX} actions`)
  }
  for (const [position, action] of transaction.actions.entries()) {
    const fault = actionFault(action)
    if (fault !== undefined) throw refusal(`action ${position} ${fault}`)
  }
  return transaction
}

function actionFault(action: unknown): string | undefined {
  const record = action as PlainRecord
  const type = record['type']
  const rule = typeof type === 'string' ? actionRules[type] : undefined
  if (rule === undefined) return 'has an unknown type'
  const wrong = rule(record)
  if (wrong !== undefined) return wrong
  if (type !== 'create' && type !== 'update') return undefined
  const fault = objectFault(record['table'] as TableName, record['object'])
  return fault === undefined ? undefined : `object ${fault}`
}

/** What is wrong with `object` as a row of `table`, if anything. */
export function objectFault(table: TableName, object: unknown): string | undefined {
  return objectRules[table](object)
}

function refusal(reason: string): SwarmError {
  return new SwarmError('INVALID_ARGUMENT', `transaction: ${reason}`)
}
