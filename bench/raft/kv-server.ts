/**
 * One server of the benchmark: raft-ts with a map, and a port for clients. Its settings are the
 * first argument, JSON; without, it only leaves its compiled code in `NODE_COMPILE_CACHE`.
 */
import { createHash } from 'node:crypto'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/log.ts'
import { systemRandom } from '../../src/base/random.ts'
import { isSwarmError } from '../../src/base/errors.ts'
import { nodeKey } from '../../src/identity/node-key.ts'
import { createMesh } from '../../src/mesh/mesh.ts'
import { RaftTransport } from '../../src/mesh/raft-transport.ts'
import { FileLogStore, FileSnapshotStore, LevelLogStore, Raft } from '../../src/raft/index.ts'
import {
  TcpTransport,
  type LogStore,
  type MetricsSink,
  type Transport,
} from '../../src/raft/index.ts'
import { KvMachine } from './kv-machine.ts'
import { OPERATION, OUTCOME, frame, frameParser } from './kv-protocol.ts'
import { SlowStore } from './slow-store.ts'

/** What a server is told. */
export interface ServerSettings {
  /** Position of this server among `peerPorts`. */
  readonly number: number
  readonly peerPorts: readonly number[]
  readonly clientPort: number
  readonly directory: string
  readonly transport: 'mesh' | 'tcp'
  readonly log: 'level' | 'file'
  readonly fsyncMs: number
  readonly snapshotThreshold: number
  readonly countWrites: boolean
  readonly bootstrap: boolean
}

if (process.argv[2] === undefined) process.exit(0)
const settings = JSON.parse(process.argv[2]) as ServerSettings
const components = { clock: systemClock, random: systemRandom, log: silentLogger }
const seeds = settings.peerPorts.map((_port, n) =>
  createHash('sha256').update(`benchmark server ${n}`).digest(),
)
const ids = seeds.map((seed) => nodeKey(seed).nodeId)
const id = ids[settings.number] ?? ''

async function openTransport(): Promise<Transport> {
  const { number, peerPorts } = settings
  const port = peerPorts[number] ?? 0
  if (settings.transport === 'tcp') {
    const transport = await TcpTransport.listen(components, { id, listen: `127.0.0.1:${port}` })
    transport.setPeers(new Map(ids.map((peer, n) => [peer, `127.0.0.1:${peerPorts[n]}`])))
    return transport
  }
  const mesh = await createMesh(components, {
    privateKeySeed: seeds[number] ?? new Uint8Array(),
    listenAddresses: [`/ip4/127.0.0.1/tcp/${port}`],
  })
  const members = seeds.map((seed, n) => {
    const { nodeId, peerId } = nodeKey(seed)
    return { nodeId, peerId, addresses: [`/ip4/127.0.0.1/tcp/${peerPorts[n]}`] }
  })
  const transport = new RaftTransport({ mesh, log: silentLogger })
  mesh.setMembers(members)
  return transport
}

function openLog(): LogStore {
  const location = join(settings.directory, 'log')
  const store: LogStore =
    settings.log === 'file'
      ? new FileLogStore({ location, random: systemRandom })
      : new LevelLogStore({ location })
  return settings.fsyncMs > 0 ? new SlowStore(store, settings.fsyncMs) : store
}

const machine = new KvMachine()
const stores = {
  logStore: openLog(),
  snapshotStore: new FileSnapshotStore({ directory: join(settings.directory, 'snapshots') }),
}
if (settings.bootstrap) {
  await Raft.bootstrap(
    stores,
    ids.map((member) => ({ id: member, address: '', suffrage: 'voter' })),
  )
}
let logWrites = 0
const metrics: MetricsSink = {
  count: (name, value) => {
    if (name === 'raft_log_writes_total') logWrites += value
  },
  gauge: () => {},
  timing: () => {},
}
const raft = await Raft.open(
  {
    ...components,
    ...stores,
    stateMachine: machine,
    transport: await openTransport(),
    ...(settings.countWrites ? { metrics } : {}),
  },
  { id, address: '', snapshotThreshold: settings.snapshotThreshold },
)
raft.onFatal((error) => {
  process.stderr.write(`${error.code} ${error.message}\n`)
  process.exit(1)
})

/** How long a refusal waits for a leader to name, milliseconds. */
const HINT_WAIT_MS = 100

/** Resolves when it is known who leads, as far as that happens soon. */
async function leaderKnown(isElsewhere: () => boolean): Promise<void> {
  if (isElsewhere()) return
  const { promise, resolve } = Promise.withResolvers<void>()
  const undo = raft.onLeadership(() => {
    if (isElsewhere()) resolve()
  })
  const timer = systemClock.after(HINT_WAIT_MS, resolve)
  await promise
  timer.cancel()
  undo()
}

/** One client; answers of one turn leave together. */
class Client {
  readonly #socket: Socket
  #answers: Buffer[] = []
  /** Reads that came in this turn; they share one proof of leadership. */
  #reads: { readonly id: number; readonly key: string }[] = []

  constructor(socket: Socket) {
    this.#socket = socket
    socket.setNoDelay(true)
    socket.on('error', () => socket.destroy())
    socket.on(
      'data',
      frameParser((request, operation, content) => this.#onRequest(request, operation, content)),
    )
  }

  #onRequest(request: number, operation: number, content: Buffer): void {
    if (operation === OPERATION.put) {
      // A copy in Node's pool: a buffer of its own for each command costs more than the command.
      raft.apply(Buffer.from(content)).then(
        () => this.#answer(frame(request, OUTCOME.ok)),
        (error: unknown) => void this.#fail(request, error),
      )
    } else if (operation === OPERATION.get) {
      if (this.#reads.length === 0) setImmediate(() => void this.#read())
      this.#reads.push({ id: request, key: content.toString('latin1') })
    } else if (operation === OPERATION.transfer) {
      raft.transferLeadership().then(
        () => this.#answer(frame(request, OUTCOME.ok)),
        (error: unknown) => void this.#fail(request, error),
      )
    } else {
      const leader = raft.leader === undefined ? -1 : ids.indexOf(raft.leader)
      const status = JSON.stringify({ ...raft.stats(), leader, number: settings.number, logWrites })
      this.#answer(frame(request, OUTCOME.ok, Buffer.from(status)))
    }
  }

  async #read(): Promise<void> {
    const reads = this.#reads
    this.#reads = []
    try {
      await raft.waitApplied(await raft.readIndex())
      for (const read of reads) this.#answer(frame(read.id, OUTCOME.ok, machine.get(read.key)))
    } catch (error) {
      for (const read of reads) void this.#fail(read.id, error)
    }
  }

  async #fail(request: number, error: unknown): Promise<void> {
    // UNAVAILABLE: leadership is on its way to another; nothing happened either. Whoever is refused
    // is told where to go: a client that asks again and again delays the change it waits for.
    const isMoving = isSwarmError(error, 'UNAVAILABLE')
    const isElsewhere = isMoving || isSwarmError(error, 'NOT_LEADER')
    if (isElsewhere) {
      await leaderKnown(() => raft.leader !== undefined && !(isMoving && raft.leader === id))
    }
    const outcome = isElsewhere ? OUTCOME.notLeader : OUTCOME.failed
    const leader = raft.leader === undefined ? -1 : ids.indexOf(raft.leader)
    this.#answer(frame(request, outcome, Buffer.from([leader & 0xff])))
  }

  #answer(answer: Buffer): void {
    this.#answers.push(answer)
    if (this.#answers.length > 1) return
    // A lone answer leaves at once; with company it waits for what else this turn brings.
    queueMicrotask(() => {
      if (this.#answers.length === 1) this.#flush()
      else setImmediate(() => this.#flush())
    })
  }

  #flush(): void {
    const answers = this.#answers
    this.#answers = []
    this.#socket.write(answers.length === 1 ? (answers[0] ?? '') : Buffer.concat(answers))
  }
}

createServer((socket) => void new Client(socket)).listen(settings.clientPort, '127.0.0.1', () =>
  process.stdout.write('ready\n'),
)
process.on('SIGTERM', () => {
  void raft.shutdown().then(() => process.exit(0))
})
