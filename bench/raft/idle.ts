/**
 * Durable writes of idle clusters: `node bench/raft/idle.ts --seconds 600 --of mesh,tcp,etcd,swarm`.
 * Three servers each, elected and written to, then left alone; counted by raft-ts's own metric and
 * from outside (file-writes.ts). `swarm` is three daemons, all managers, without services;
 * `service` the same with six running tasks. One JSON line each, then a table.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { skeinOk } from '../../cluster-tests/harness/daemon.ts'
import { IMAGE, TestSwarm } from '../../cluster-tests/harness/swarm.ts'
import { processesOf } from '../process-table.ts'
import { markdownTable } from '../statistics.ts'
import { FileWatch, type FileWrites } from './file-writes.ts'
import { Generator } from './generator.ts'
import { KvClient } from './kv-client.ts'
import { SIDES, Side, type SideName } from './sides.ts'

const SUBJECTS = [...SIDES, 'swarm', 'service'] as const
type Subject = (typeof SUBJECTS)[number]

/** Of 127/8; none that a test uses. */
const SUBNETS = { swarm: 231, service: 232 } as const
const TASKS = 6
/** Writes before the rest, so that there is something that could be written again. */
const FIRST_WRITES = 100
/** Time for all that follows one write. */
const PROOF_MS = 2000
const SNAPSHOT_THRESHOLD = 20_000

/** What raft-ts says of itself; nothing about other subjects. */
interface OwnWord {
  readonly term: number
  readonly logWrites: number
}

interface Cluster extends AsyncDisposable {
  readonly directory: string
  readonly pids: () => readonly number[]
  /** Writes something, many times or once. */
  readonly write: (count: number) => Promise<void>
  readonly ownWord: () => Promise<OwnWord | undefined>
}

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '600' },
    settle: { type: 'string', default: '60' },
    of: { type: 'string', default: SUBJECTS.join() },
  },
})
const seconds = Number(options.seconds)
const scratch = mkdtempSync(join(tmpdir(), 'bench-raft-idle-'))
const say = (text: string): void => void process.stderr.write(`${text}\n`)

async function startSide(name: SideName): Promise<Cluster> {
  const side = await Side.start(name, {
    fsyncMs: 0,
    snapshotThreshold: SNAPSHOT_THRESHOLD,
    countWrites: true,
  })
  const { target, directory } = side
  const write = async (count: number): Promise<void> => {
    await using generator = new Generator()
    const leader = await generator.order<number>({ type: 'leader', target })
    const failures = await generator.order<number>({ type: 'fill', target, leader, count })
    if (failures > 0) throw new Error(`${name}: ${failures} writes failed`)
  }
  const ownWord = async (): Promise<OwnWord | undefined> => {
    if (name === 'etcd') return undefined
    const each = await Promise.all(target.ports.map(statusOf))
    const logWrites = each.reduce((sum, status) => sum + status.logWrites, 0)
    return { term: Math.max(...each.map(({ term }) => term)), logWrites }
  }
  return {
    directory,
    pids: () => side.pids,
    write,
    ownWord,
    [Symbol.asyncDispose]: () => side[Symbol.asyncDispose](),
  }
}

function statusOf(port: number): Promise<OwnWord> {
  const client = new KvClient(port)
  return new Promise((resolve, reject) => {
    client.status(({ content }) => {
      client.close()
      if (content === undefined) reject(new Error('a server is gone'))
      else resolve(JSON.parse(content.toString()) as OwnWord)
    })
  })
}

async function startSwarm(subject: 'swarm' | 'service'): Promise<Cluster> {
  const swarm = new TestSwarm(3, SUBNETS[subject])
  try {
    await swarm.start()
    await swarm.form(3)
    const first = swarm.node(0)
    if (subject === 'service') {
      for (const daemon of swarm.daemons) await swarm.loadImage(daemon)
      await skeinOk(first, 'service', 'create', '--detach', '--replicas', String(TASKS), IMAGE)
      await swarm.untilRunning(first, TASKS)
    }
  } catch (error) {
    await swarm[Symbol.asyncDispose]()
    throw error
  }
  return {
    directory: swarm.directory,
    pids: () => processesOf(swarm.directory).map(({ pid }) => pid),
    write: async () => {
      const args = ['node', 'update', '--label-add', `written=${Date.now()}`]
      const nodeId = await skeinOk(swarm.node(0), 'node', 'ls', '--quiet')
      await skeinOk(swarm.node(0), ...args, nodeId.split('\n')[0] ?? '')
    },
    ownWord: () => Promise.resolve(undefined),
    [Symbol.asyncDispose]: () => swarm[Symbol.asyncDispose](),
  }
}

function start(subject: Subject): Promise<Cluster> {
  return subject === 'swarm' || subject === 'service' ? startSwarm(subject) : startSide(subject)
}

interface Row extends FileWrites {
  /** Calls that the same watch saw when something was written once: it sees. */
  readonly proofCalls: number
  readonly subject: Subject
  readonly seconds: number
  readonly logWrites: number | undefined
  readonly elections: number | undefined
}

async function watch(subject: Subject): Promise<Row> {
  await using cluster = await start(subject)
  await cluster.write(FIRST_WRITES)
  await sleep(Number(options.settle) * 1000)
  const { directory } = cluster
  const output = join(scratch, `${subject}.strace`)
  const before = await cluster.ownWord()
  const files = await FileWatch.begin(cluster.pids(), { directory, output })
  say(`${subject}: watched for ${seconds} s`)
  await sleep(seconds * 1000)
  const writes = await files.end()
  const after = await cluster.ownWord()
  const proof = await FileWatch.begin(cluster.pids(), { directory, output })
  await cluster.write(1)
  await sleep(PROOF_MS)
  const proofCalls = (await proof.end()).calls
  const row = {
    subject,
    seconds,
    logWrites: minus(after?.logWrites, before?.logWrites),
    elections: minus(after?.term, before?.term),
    ...writes,
    proofCalls,
  }
  process.stdout.write(`${JSON.stringify(row)}\n`)
  return row
}

function minus(after: number | undefined, before: number | undefined): number | undefined {
  return after === undefined || before === undefined ? undefined : after - before
}

const shown = (value: number | undefined): string => (value === undefined ? '–' : String(value))
const subjects = SUBJECTS.filter((subject) => options.of.split(',').includes(subject))
const rows = await Promise.all(subjects.map(watch))
const heading = ['', 'seconds', 'log writes (own metric)', 'elections']
heading.push(
  'calls that changed files',
  'of these syncs',
  'bytes to disks',
  'calls after one write',
)
const cells = rows.map((row) => [
  row.subject,
  String(row.seconds),
  shown(row.logWrites),
  shown(row.elections),
  ...[row.calls, row.syncs, row.diskBytes, row.proofCalls].map(String),
])
process.stdout.write(`\n${markdownTable([heading, ...cells])}\n`)
rmSync(scratch, { recursive: true })
