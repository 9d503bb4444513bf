/**
 * How long the resolver's names hold the event loop in a large cluster: 1,000 services of 10
 * replicas on ten networks, this node with a tenth of the replicas. A question after each change,
 * and the first of all. Processor time of this thread, which other work on the machine cannot
 * lengthen.
 *
 * `node bench/network/names.ts [--services 1000] [--changes 200]`
 */
import { parseArgs } from 'node:util'
import { at } from '../../src/base/assert.ts'
import { systemClock } from '../../src/base/clock.ts'
import { Names } from '../../src/network/dns/names.ts'
import { TimeSlices } from '../../src/network/time-slices.ts'
import { Store } from '../../src/store/store.ts'
import {
  nodeDraft,
  serviceDraft,
  serviceSpec,
  taskDraft,
  writeTo,
} from '../../src/store/testing/fixtures.ts'
import type { Action } from '../../src/store/transaction.ts'
import { markdownTable, rangeText, summarise } from '../statistics.ts'
import { HeldLoop } from './held-loop.ts'
import type { Held } from './held-loop.ts'

const REPLICAS = 10
const NODES = 10
const NETWORKS = 10
const ROUNDS = 10

class Cluster {
  readonly store = new Store()
  readonly #services: number

  constructor(services: number) {
    this.#services = services
    for (let node = 0; node < NODES; node += 1) {
      this.#write({ type: 'create', table: 'nodes', object: nodeDraft(`n${node}`) })
    }
    for (let network = 0; network < NETWORKS; network += 1) {
      const object = { id: `net${network}`, spec: { Name: `net${network}`, EnableIPv6: true } }
      this.#write({ type: 'create', table: 'networks', object })
    }
    for (let service = 0; service < services; service += 1) this.#write(...creation(service))
  }

  /** The names of a daemon that starts. */
  names(): Names {
    const { store } = this
    const names = new Names(
      { store, slices: new TimeSlices(systemClock) },
      { nodeId: 'n0', hasVirtualAddresses: true, routed: true },
    )
    store.onCommit((commit) => names.noteCommit(commit))
    return names
  }

  /** A replica is to stop, or again to run. */
  change(number: number): void {
    const service = `s${number % this.#services}`
    const { meta, ...draft } = at(this.store.find('tasks', 'serviceId', service), number % REPLICAS)
    const desiredState = draft.desiredState === 'running' ? 'shutdown' : 'running'
    const object = { ...draft, desiredState } as const
    this.#write({ type: 'update', table: 'tasks', object, version: meta.version })
  }

  #write(...actions: Action[]): void {
    writeTo(this.store, ...actions)
  }
}

function creation(service: number): Action[] {
  const id = `s${service}`
  const networkId = `net${service % NETWORKS}`
  const place = `${service >> 8}.${service & 255}`
  const endpoint = {
    ports: [],
    allocatedFor: 0,
    networks: [{ networkId, aliases: [`alias${service}`] }],
    virtualAddresses: [{ networkId, address: `10.96.${place}` }],
  }
  const tasks = Array.from({ length: REPLICAS }, (_, slot): Action => {
    const where = { nodeId: `n${slot % NODES}`, address: `10.${32 + slot}.${place}` }
    const of = { serviceId: id, serviceName: id, slot: slot + 1 }
    const networks = [{ networkId, aliases: [] }]
    const object = taskDraft(`${id}t${slot}`.padEnd(25, '0'), { ...of, ...where, networks })
    return { type: 'create', table: 'tasks', object }
  })
  const object = { ...serviceDraft(id, serviceSpec(id)), endpoint }
  return [{ type: 'create', table: 'services', object }, ...tasks]
}

/** A question, as the resolver treats it. */
async function ask(names: Names, service: number): Promise<void> {
  await names.refresh()
  const caller = names.callerAt('10.32.0.0')
  const found = caller && names.lookup(caller, `s${service - (service % NETWORKS)}`)
  if (found === undefined) throw new Error(`no service ${service}`)
}

async function held(work: () => Promise<void>): Promise<Held> {
  return await HeldLoop.during(async () => {
    const beganMs = performance.now()
    await work()
    return performance.now() - beganMs
  })
}

const { values } = parseArgs({
  options: {
    services: { type: 'string', default: '1000' },
    changes: { type: 'string', default: '200' },
  },
})
const [services, changes] = [Number(values.services), Number(values.changes)]
const cluster = new Cluster(services)
const [first, later]: [Held[], Held[]] = [[], []]
for (let round = 0; round < ROUNDS; round += 1) {
  const names = cluster.names()
  const start = await held(() => ask(names, 0))
  // The first round compiles.
  if (round > 0) first.push(start)
  if (round < ROUNDS - 1) continue
  for (let number = 0; number < changes; number += 1) {
    cluster.change(number * 7)
    later.push(await held(() => ask(names, number)))
  }
}
const row = (what: string, rows: readonly Held[]): string[] => [
  what,
  rangeText(summarise(rows.map(({ ms }) => ms)), 2, 'ms'),
  rangeText(summarise(rows.map(({ cpuMs }) => cpuMs)), 2, 'ms'),
]
process.stdout.write(
  `${markdownTable([
    [`names of ${services} services × ${REPLICAS}`, 'answered after', 'loop held, processor time'],
    row('the first question', first),
    row('a question after a change', later),
  ])}\n`,
)
