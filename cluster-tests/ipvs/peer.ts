/**
 * A program in a namespace of its own that the suite tells what to do, over Node's channel between
 * processes: it serves HTTP and UDP under a name, and it is a client.
 */
import { createSocket } from 'node:dgram'
import type { Socket } from 'node:dgram'
import { Agent, createServer, get } from 'node:http'
import { setTimeout } from 'node:timers/promises'

/** What a peer can be asked. `connection` names one that is kept open. */
export type PeerRequest =
  | { readonly type: 'serve'; readonly name: string; readonly port: number; readonly host?: string }
  | {
      readonly type: 'get'
      readonly host: string
      readonly port: number
      /** Absent: one of its own. */
      readonly connection?: string
      readonly from?: string
    }
  | {
      readonly type: 'datagram'
      readonly host: string
      readonly port: number
      readonly connection: string
    }

/** How long a client waits; then the answer is `silence`. */
const PATIENCE_MS = 4_000

const agents = new Map<string, Agent>()
const sockets = new Map<string, Socket>()

process.on('message', ({ id, request }: { id: number; request: PeerRequest }) => {
  void answer(request).then((text) => process.send?.({ id, text }))
})
process.on('disconnect', () => process.exit())
process.send?.({ id: 0, text: 'ready' })

function answer(request: PeerRequest): Promise<string> {
  switch (request.type) {
    case 'serve':
      return serve(request.name, request.port, request.host ?? '::')
    case 'get':
      return ask(request)
    case 'datagram':
      return askDatagram(request)
    default:
      return request satisfies never
  }
}

/** HTTP and UDP answer with the name and the address that asked. */
async function serve(name: string, port: number, host: string): Promise<string> {
  const server = createServer((incoming, response) => {
    response.end(`${name} ${plain(incoming.socket.remoteAddress ?? '')}`)
  })
  server.keepAliveTimeout = 0
  const isIpv6 = host.includes(':')
  const socket = createSocket(isIpv6 ? 'udp6' : 'udp4')
  socket.on('message', (_text, from) => {
    socket.send(`${name} ${plain(from.address)}`, from.port, from.address)
  })
  socket.bind(port, host)
  await new Promise<void>((resolve) => {
    server.listen(port, host, resolve)
  })
  return 'serving'
}

function plain(address: string): string {
  return address.replace(/^::ffff:/, '')
}

/** The answer, or `error CODE`, or `silence`. */
function ask(request: Extract<PeerRequest, { type: 'get' }>): Promise<string> {
  const { host, port, connection, from } = request
  const agent = connection === undefined ? new Agent() : kept(connection)
  return new Promise((resolve) => {
    const local = from === undefined ? {} : { localAddress: from }
    const asking = get({ host, port, agent, timeout: PATIENCE_MS, ...local }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk) => {
        text += String(chunk)
      })
      response.on('end', () => resolve(text))
    })
    asking.on('timeout', () => {
      resolve('silence')
      asking.destroy()
    })
    asking.on('error', (error: NodeJS.ErrnoException) => resolve(`error ${error.code ?? ''}`))
  })
}

function kept(connection: string): Agent {
  const known = agents.get(connection)
  if (known !== undefined) return known
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  agents.set(connection, agent)
  return agent
}

async function askDatagram(request: Extract<PeerRequest, { type: 'datagram' }>): Promise<string> {
  const { host, port, connection } = request
  const socket = sockets.get(connection) ?? createSocket(host.includes(':') ? 'udp6' : 'udp4')
  sockets.set(connection, socket)
  const answered = new Promise<string>((resolve) => {
    socket.once('message', (text) => resolve(String(text)))
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(`error ${error.code ?? ''}`))
  })
  socket.send('who', port, host)
  return Promise.race([answered, setTimeout(PATIENCE_MS, 'silence')])
}
