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
import { FileLogStore, FileSnapshotStore, LevelLogStore, Raft } from '../../src/raft/index.ts'
import { CutTransport } from './cut-transport.ts'
import { Ledger, encodeWrite } from './ledger.ts'
import { addressOf, identityOf, openLinks, peerOf } from './links.ts'
import { lineParser, toLine } from './protocol.ts'
import type { Answer, Change, Peer, Numbered, Request, ServerSettings } from './protocol.ts'

/** Small, so that every run goes through many segments, snapshots and installations. */
const SEGMENT_BYTES = 512 * 1024
const SNAPSHOT_ENTRIES = 250
const TRAILING_ENTRIES = 30
const TICK_MS = 50
/** How long a write or read waits before its outcome is called unknown. */
const TIMEOUT_MS = 5000
/** How long a change of membership waits. */
const CHANGE_MS = 2000

const settings = JSON.parse(process.argv[2] ?? '') as ServerSettings
const identity = ({ name }: Peer): string => identityOf(name, settings.transport)
const log = pino(
  { base: { member: settings.self.name } },
  pino.destination({ dest: 2, sync: true }),
)
const components = { clock: systemClock, random: systemRandom, log }

function openLog(): LogStore {
  const location = join(settings.directory, 'log')
  if (settings.log === 'level') return new LevelLogStore({ location, log })
  return new FileLogStore({ location, log, random: systemRandom, segmentBytes: SEGMENT_BYTES })
}

const ledger = new Ledger()
const stores = {
  logStore: openLog(),
  snapshotStore: new FileSnapshotStore({ directory: join(settings.directory, 'snapshots') }),
}
if (settings.bootstrap) {
  const servers = settings.peers.map((peer) => {
    return { id: identity(peer), address: addressOf(peer), suffrage: 'voter' as const }
  })
  await Raft.bootstrap(stores, servers)
}
const links = await openLinks(components, settings)
const transport = new CutTransport(links.transport)
const raft = await Raft.open(
  { ...components, ...stores, stateMachine: ledger, transport },
  {
    id: identity(settings.self),
    address: addressOf(settings.self),
    tickMs: TICK_MS,
    snapshotThreshold: SNAPSHOT_ENTRIES,
    trailingEntries: TRAILING_ENTRIES,
    timeoutMs: TIMEOUT_MS,
  },
)

/** Those the test named at the start, and all whom the configuration names. */
function meetPeers(): void {
  const peers = new Map(settings.peers.map((peer) => [peer.name, peer]))
  for (const peer of raft.configuration.servers.map(peerOf)) peers.set(peer.name, peer)
  links.setPeers([...peers.values()])
}

meetPeers()
raft.onConfiguration(meetPeers)
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
    case 'configuration': {
      await raft.waitApplied(await raft.readIndex())
      const { servers } = raft.configuration
      const named = (suffrage: 'voter' | 'learner'): readonly string[] =>
        servers.filter((one) => one.suffrage === suffrage).map((one) => peerOf(one).name)
      return { type: 'configuration', voters: named('voter'), learners: named('learner') }
    }
    case 'change':
      await change(request.change, request.peer)
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

async function change(type: Change, peer: Peer): Promise<void> {
  const [id, address] = [identity(peer), addressOf(peer)]
  const options = { timeoutMs: CHANGE_MS }
  if (type === 'addLearner') await raft.addLearner(id, address, options)
  else if (type === 'addVoter') await raft.addVoter(id, address, options)
  else await raft.removeServer(id, options)
}

function failure(error: unknown): Answer {
  if (!isSwarmError(error)) throw error
  const server = raft.configuration.servers.find(({ id }) => id === raft.leader)
  const leader = server === undefined ? '' : peerOf(server).name
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
