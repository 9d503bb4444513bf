/**
 * Logs across nodes: reader and server on real meshes, over scripted logs; and the pieces of
 * both.
 */
import test from 'ava'
import type { ExecutionContext } from 'ava'
import type { LogLine } from '../agent/task-log.ts'
import type { LogOptions, LogRecord, LogTarget } from '../api/ports.ts'
import { systemClock } from '../base/clock.ts'
import { SwarmError } from '../base/errors.ts'
import type { MeshHost } from '../mesh/mesh.ts'
import type { Duplex } from '../mesh/ports.ts'
import { connectAll, connected, failure, loopbackMesh, until } from '../mesh/testing/swarm.ts'
import { Store } from '../store/store.ts'
import { nodeDraft, serviceDraft, serviceSpec, taskDraft } from '../store/testing/fixtures.ts'
import { transactionOf } from '../store/testing/fixtures.ts'
import type { Action } from '../store/transaction.ts'
import { BATCH_BYTES_MAX, BatchWriter } from './batch-writer.ts'
import { LogMerge, MERGED_RECORDS_MAX } from './log-merge.ts'
import {
  LOGS_METHOD,
  LOG_RECORD_BYTES_MAX,
  decodeLine,
  decodeQuestion,
  encodeLine,
} from './log-protocol.ts'
import { SwarmLogReader } from './log-reader.ts'
import { LogServer } from './log-server.ts'
import type { LocalLogs } from './log-server.ts'

const OPTIONS = { stdout: true, stderr: true, follow: false }

function lineOf(text: string, second = 0): LogLine {
  const time = `2026-01-01T00:00:${String(second).padStart(2, '0')}.000000001+00:00`
  return { stream: 'stdout', time, line: text }
}

/** Logs of one node, as a test writes them. */
class ScriptedLogs implements LocalLogs {
  readonly #lines = new Map<string, LogLine[]>()
  readonly #ended = new Set<string>()
  /** Reads under way. */
  reading = 0

  write(taskId: string, ...lines: readonly LogLine[]): void {
    this.#lines.set(taskId, [...(this.#lines.get(taskId) ?? []), ...lines])
  }

  end(taskId: string): void {
    this.#ended.add(taskId)
  }

  readLogs(
    taskId: string,
    query: Parameters<LocalLogs['readLogs']>[1] = {},
  ): AsyncIterable<LogLine> {
    if (!this.#lines.has(taskId)) throw new SwarmError('NOT_FOUND', `task ${taskId}: not here`)
    return this.#read(taskId, query)
  }

  async *#read(
    taskId: string,
    query: NonNullable<Parameters<LocalLogs['readLogs']>[1]>,
  ): AsyncGenerator<LogLine> {
    this.reading += 1
    try {
      const lines = (): LogLine[] => this.#lines.get(taskId) ?? []
      let position = query.tail === undefined ? 0 : Math.max(0, lines().length - query.tail)
      for (;;) {
        for (const line of lines().slice(position)) {
          position += 1
          if (query.since === undefined || line.time >= query.since) yield line
        }
        if (query.follow !== true || this.#ended.has(taskId)) return
        if (query.signal?.aborted === true) return
        await new Promise((resolve) => systemClock.after(5, () => resolve(undefined)))
      }
    } finally {
      this.reading -= 1
    }
  }
}

interface Site {
  readonly nodeId: string
  readonly mesh: MeshHost
  readonly logs: ScriptedLogs
  /** Replaced when the node is to begin anew. */
  server: LogServer
  readonly reader: SwarmLogReader
}

interface Sites {
  readonly manager: Site
  readonly worker: Site
  readonly store: Store
  readonly apply: (...actions: readonly Action[]) => void
}

async function startSite(store: Store): Promise<Site> {
  const mesh = await loopbackMesh()
  const { nodeId } = mesh.self
  const logs = new ScriptedLogs()
  const server = new LogServer({ store, agent: logs })
  const reader = new SwarmLogReader({ store, agent: logs, mesh, clock: systemClock }, { nodeId })
  const site: Site = { nodeId, mesh, logs, server, reader }
  mesh.handleStream(LOGS_METHOD, (header, stream) => site.server.serve(header, stream))
  return site
}

/** A manager and a worker on one store, linked; service `service` is there. */
async function startSites(t: ExecutionContext): Promise<Sites> {
  const store = new Store()
  const apply = (...actions: readonly Action[]): void => {
    const index = store.index + 1
    const transaction = transactionOf(String(index).padStart(25, '0'), actions)
    const result = store.applyTransaction(transaction, index)
    if (!result.ok) throw new Error(result.message)
  }
  const [manager, worker] = [await startSite(store), await startSite(store)]
  t.teardown(() => Promise.all([manager.mesh.close(), worker.mesh.close()]))
  for (const [site, Role] of [
    [manager, 'manager'],
    [worker, 'worker'],
  ] as const) {
    const object = nodeDraft(site.nodeId, { spec: { Role, Availability: 'active' } })
    apply({ type: 'create', table: 'nodes', object })
  }
  apply({ type: 'create', table: 'services', object: serviceDraft('service', serviceSpec('web')) })
  connectAll([manager.mesh, worker.mesh])
  await connected([manager.mesh, worker.mesh])
  return { manager, worker, store, apply }
}

function addTask(sites: Sites, id: string, site: Site, ...lines: readonly LogLine[]): void {
  if (lines.length > 0) site.logs.write(id, ...lines)
  const object = taskDraft(id, { nodeId: site.nodeId })
  sites.apply({ type: 'create', table: 'tasks', object })
}

/** What a reader gave so far, as `task: line`, and how it ended. */
class Reading {
  readonly lines: string[] = []
  readonly records: LogRecord[] = []
  readonly done: Promise<void>
  readonly #controller = new AbortController()

  constructor(site: Site, target: LogTarget, options: Partial<LogOptions> = {}) {
    const { signal } = this.#controller
    this.done = this.#read(site.reader.read(target, { ...OPTIONS, signal, ...options }))
    this.done.catch(() => {})
  }

  withdraw(): void {
    this.#controller.abort(new SwarmError('ABORTED', 'enough'))
  }

  async #read(records: AsyncIterable<LogRecord>): Promise<void> {
    for await (const record of records) {
      this.records.push(record)
      this.lines.push(`${record.taskId}: ${Buffer.from(record.line).toString().replace(/\n$/, '')}`)
    }
  }
}

const SERVICE = { serviceId: 'service' }

test('logs come from this node and from others, each with its origin', async (t) => {
  const sites = await startSites(t)
  const { manager, worker } = sites
  addTask(sites, 'near', manager, lineOf('one'), lineOf('two'))
  addTask(sites, 'far', worker, lineOf('three'), { ...lineOf('four'), stream: 'stderr' })
  addTask(sites, 'notyet', worker)
  const reading = new Reading(manager, SERVICE)
  await reading.done
  t.deepEqual(reading.lines.toSorted(), ['far: four', 'far: three', 'near: one', 'near: two'])
  const four = reading.records.find((record) => Buffer.from(record.line).toString() === 'four\n')
  t.like(four, {
    ...{ taskId: 'far', nodeId: worker.nodeId, serviceId: 'service', stream: 'stderr' },
    timestamp: '2026-01-01T00:00:00.000000001Z',
  })
  const errors = new Reading(manager, SERVICE, { stdout: false })
  await errors.done
  t.deepEqual(errors.lines, ['far: four'])
  const last = new Reading(manager, { taskId: 'near' }, { tail: 1 })
  await last.done
  t.deepEqual(last.lines, ['near: two'])
})

test('thousands of lines cross the mesh whole and in order', async (t) => {
  const sites = await startSites(t)
  const texts = Array.from(
    { length: 5000 },
    (_, index) => `line ${index} ${'x'.repeat(index % 90)}`,
  )
  addTask(sites, 'far', sites.worker, ...texts.map((text) => lineOf(text)))
  const reading = new Reading(sites.manager, SERVICE)
  await reading.done
  t.deepEqual(
    reading.lines,
    texts.map((text) => `far: ${text}`),
  )
})

test('a worker’s question is refused', async (t) => {
  const sites = await startSites(t)
  const { manager, worker } = sites
  manager.logs.write('near', lineOf('secret'))
  const question = { taskId: 'near', ...OPTIONS }
  const refused = await failure(
    worker.mesh.openStream(manager.nodeId, LOGS_METHOD, question).then(readAll),
  )
  t.like(refused, { code: 'PERMISSION_DENIED' })
  const malformed = { ...question, taskId: '../../etc' }
  const other = await failure(
    manager.mesh.openStream(worker.nodeId, LOGS_METHOD, malformed).then(readAll),
  )
  t.like(other, { code: 'INVALID_ARGUMENT' })
})

async function readAll(stream: Duplex): Promise<void> {
  const incoming = stream.source[Symbol.asyncIterator]()
  while ((await incoming.next()).done !== true) continue
}

test('a silent node does not hide the others, and is named at the end', async (t) => {
  const sites = await startSites(t)
  const { manager, worker } = sites
  addTask(sites, 'near', manager, lineOf('one'))
  addTask(sites, 'far', worker, lineOf('two'))
  await worker.mesh.close()
  const reading = new Reading(manager, SERVICE)
  const error = await failure(reading.done)
  t.deepEqual(reading.lines, ['near: one'])
  t.like(error, { code: 'UNAVAILABLE' })
  t.regex(
    error.message,
    new RegExp(`incomplete log stream.*node ${worker.nodeId} is not available`),
  )
})

test('a follower brings later lines and later tasks, and ends with the service', async (t) => {
  const sites = await startSites(t)
  const { manager, worker } = sites
  addTask(sites, 'far', worker, lineOf('old'), lineOf('one'))
  const reading = new Reading(manager, SERVICE, { follow: true, tail: 1 })
  await until(() => reading.lines.includes('far: one'))
  worker.logs.write('far', lineOf('two'))
  await until(() => reading.lines.includes('far: two'))
  addTask(sites, 'later', manager, lineOf('first'), lineOf('second'))
  await until(() => reading.lines.includes('later: second'))
  t.deepEqual(reading.lines, ['far: one', 'far: two', 'later: first', 'later: second'])
  sites.apply({ type: 'remove', table: 'services', id: 'service' })
  worker.logs.end('far')
  manager.logs.end('later')
  await reading.done
  t.is(worker.logs.reading + manager.logs.reading, 0)
})

test('a withdrawn follower ends without an error and leaves nothing open', async (t) => {
  const sites = await startSites(t)
  const { manager, worker } = sites
  addTask(sites, 'near', manager, lineOf('one'))
  addTask(sites, 'far', worker, lineOf('two'))
  const reading = new Reading(manager, SERVICE, { follow: true })
  await until(() => reading.lines.length === 2)
  reading.withdraw()
  await reading.done
  await until(() => worker.logs.reading + manager.logs.reading === 0)
  t.pass()
})

test('a follower says what is missing, and goes on without repeating', async (t) => {
  const sites = await startSites(t)
  const { manager, worker } = sites
  addTask(sites, 'far', worker, lineOf('one', 1))
  const reading = new Reading(manager, SERVICE, { follow: true })
  await until(() => reading.lines.includes('far: one'))
  worker.server.close()
  await until(() => reading.lines.some((line) => line.startsWith('far: skein: lines are missing')))
  worker.logs.write('far', lineOf('two', 2))
  worker.server = new LogServer({ store: sites.store, agent: worker.logs })
  await until(() => reading.lines.includes('far: two'))
  reading.withdraw()
  await reading.done
  t.deepEqual(
    reading.lines.filter((line) => !line.includes('missing')),
    ['far: one', 'far: two'],
  )
})

test('records survive the wire; what is malformed or endless is refused', (t) => {
  const line = { ...lineOf('tea for two ☕'), stream: 'stderr' } as const
  t.deepEqual(decodeLine(encodeLine(line).subarray(4)), line)
  t.true(encodeLine(lineOf('☕'.repeat(LOG_RECORD_BYTES_MAX))).length <= LOG_RECORD_BYTES_MAX)
  t.throws(() => decodeLine(Buffer.from('nonsense')), { code: 'INVALID_ARGUMENT' })
  t.throws(() => decodeQuestion({ taskId: 'a', ...OPTIONS, tail: -1 }), {
    code: 'INVALID_ARGUMENT',
  })
})

test('a merge holds its sources up when nobody reads', async (t) => {
  const merge = new LogMerge<number>()
  let given = 0
  const source = async function* (): AsyncGenerator<number> {
    for (;;) yield (given += 1)
  }
  merge.add(source())
  const records = merge.read()
  await records.next()
  await until(() => given >= MERGED_RECORDS_MAX)
  const before = given
  for (let turn = 0; turn < 10; turn += 1) await Promise.resolve()
  t.is(given, before)
  t.true(given <= MERGED_RECORDS_MAX + 2)
  await records.return(undefined)
  await merge.settled()
  t.is(merge.active, 0)
})

test('small writes leave together, and a failed write is told to the giver', async (t) => {
  const chunks: number[] = []
  const writer = new BatchWriter({
    write: (chunk) => {
      chunks.push(chunk.length)
      return Promise.resolve()
    },
  })
  for (let line = 0; line < 3000; line += 1) await writer.write(Buffer.alloc(100))
  await writer.flush()
  t.is(
    chunks.reduce((sum, length) => sum + length, 0),
    300_000,
  )
  t.true(chunks.length <= Math.ceil(300_000 / BATCH_BYTES_MAX) + 1)
  const broken = new BatchWriter({ write: () => Promise.reject(new Error('reset')) })
  await broken.write(Buffer.alloc(1))
  t.is((await failure(broken.flush())).message, 'reset')
  t.is((await failure(broken.write(Buffer.alloc(1)))).message, 'reset')
})
