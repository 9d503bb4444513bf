/**
 * One member of the crash test: raft-ts on a real disk and real sockets, and a port for the client
 * outside. Ends only when it is killed, when Raft says that it must (exit code 1), or when the test
 * itself is gone (standard input ends).
 */
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import pino from 'pino'
import { systemClock } from '../../src/base/clock.ts'
import { isSwarmError } from '../../src/base/errors.ts'
import { systemRandom } from '../../src/base/random.ts'
import type { LogStore } from '../../src/raft/index.ts'
import {
  FileLogStore,
  FileSnapshotStore,
  LevelLogStore,
  Raft,
  TcpTransport,
} from '../../src/raft/index.ts'
import { CutTransport } from './cut-transport.ts'
import { Ledger, encodeWrite } from './ledger.ts'
import { lineParser, toLine } from './protocol.ts'
import type { Answer, Numbered, Request, ServerSettings } from './protocol.ts'

/** Small, so that every run goes through many segments, snapshots and installations. */
const SEGMENT_BYTES = 512 * 1024
const SNAPSHOT_ENTRIES = 250
const TRAILING_ENTRIES = 30
const TICK_MS = 50
/** How long a write or read waits before its outcome is called unknown. */
const TIMEOUT_MS = 5000

const settings = JSON.parse(process.argv[2] ?? '') as ServerSettings
const ids = settings.peers.map((_address, number) => `member-${number}`)
const id = ids[settings.number] ?? ''
const log = pino({ base: { member: settings.number } }, pino.destination({ dest: 2, sync: true }))
const components = { clock: systemClock, random: systemRandom, log }

function openLog(): LogStore {
  const location = join(settings.directory, 'log')
  if (settings.log === 'level') return new LevelLogStore({ location, log })
  return new FileLogStore({ location, log, random: systemRandom, segmentBytes: SEGMENT_BYTES })
}

async function openTransport(): Promise<CutTransport> {
  const listen = settings.peers[settings.number] ?? ''
  const transport = await TcpTransport.listen(components, { id, listen })
  transport.setPeers(new Map(ids.map((peer, n) => [peer, settings.peers[n] ?? ''])))
  return new CutTransport(transport)
}

const ledger = new Ledger()
const stores = {
  logStore: openLog(),
  snapshotStore: new FileSnapshotStore({ directory: join(settings.directory, 'snapshots') }),
}
if (settings.bootstrap) {
  const servers = ids.map((member) => ({ id: member, address: '', suffrage: 'voter' as const }))
  await Raft.bootstrap(stores, servers)
}
const transport = await openTransport()
const raft = await Raft.open(
  { ...components, ...stores, stateMachine: ledger, transport },
  {
    id,
    address: '',
    tickMs: TICK_MS,
    snapshotThreshold: SNAPSHOT_ENTRIES,
    trailingEntries: TRAILING_ENTRIES,
    timeoutMs: TIMEOUT_MS,
  },
)
raft.onFatal(() => process.exit(1))
process.stdin.on('end', () => process.exit(0)).resume()

async function answerTo(request: Request): Promise<Answer> {
  switch (request.type) {
    case 'write': {
      const applied = await raft.apply(encodeWrite(request.value, request.sizeBytes))
      return { type: 'written', position: applied.response, term: applied.term }
    }
    case 'read':
      await raft.waitApplied(await raft.readIndex())
      return { type: 'value', length: ledger.length, last: ledger.lastOf(request.key) }
    case 'tail':
      await raft.waitApplied(await raft.readIndex())
      return { type: 'tail', values: ledger.from(request.from), digest: ledger.digest }
    case 'transfer':
      await raft.transferLeadership()
      return { type: 'done' }
    case 'cut':
      transport.isCut = request.isCut
      return { type: 'done' }
    case 'status': {
      const { role, term, snapshotIndex } = raft.stats()
      const { length, digest } = ledger
      return { type: 'status', role, term, snapshotIndex, length, digest }
    }
    default:
      request satisfies never
      throw new Error('unknown request')
  }
}

function failure(error: unknown): Answer {
  if (!isSwarmError(error)) throw error
  const leader = raft.leader === undefined ? -1 : ids.indexOf(raft.leader)
  return { type: 'failed', code: error.code, leader }
}

async function serve(socket: Socket, request: Numbered<Request>): Promise<void> {
  const answer = await answerTo(request).catch(failure)
  if (!socket.destroyed) socket.write(toLine({ id: request.id, ...answer }))
}

createServer({ noDelay: true }, (socket) => {
  socket.on('error', () => socket.destroy())
  const parse = lineParser<Numbered<Request>>((request) => void serve(socket, request))
  socket.on('data', parse)
}).listen(settings.clientPort, settings.host)
