/**
 * A container that says who it is and whom it sees, over TCP and UDP in both families, and clients
 * of it: sockets of this process in the namespaces of hosts and containers.
 */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { isIPv6 } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeDemoImage } from '../../scripts/make-image.ts'
import type { Place } from '../../src/network/conformance-peers.ts'
import { skeinOk } from './daemon.ts'
import type { Daemon } from './daemon.ts'

/** Tag of the image. */
export const SPEAKER = 'speaker:1'
/** Port of TCP, and of UDP. */
export const SPEAKER_TCP = 80
export const SPEAKER_UDP = 53

/** Milliseconds that a speaker goes on answering after SIGTERM. */
const FAREWELL_MS = 2_000

/** Milliseconds for an answer. */
const ANSWER_MS = 2_000

/** Arguments that make a service of speakers, which listen on `::`, or with IPv4 alone. */
export function speakerCommand(family: 'both' | 'ipv4' = 'both'): readonly string[] {
  const [address, type] = family === 'both' ? ['::', 'udp6'] : ['0.0.0.0', 'udp4']
  const code = `
    const name = require('os').hostname()
    const plain = (address) => address.replace('::ffff:', '')
    const server = require('net').createServer((client) => {
      client.on('error', () => {})
      client.end(name + ' ' + plain(client.remoteAddress) + '\\n')
    })
    server.listen(${SPEAKER_TCP}, '${address}')
    const socket = require('dgram').createSocket('${type}')
    socket.on('message', (text, from) => {
      socket.send(name + ' ' + plain(from.address), from.port, from.address)
    })
    socket.bind(${SPEAKER_UDP}, '${address}')
    process.on('SIGTERM', () => setTimeout(() => process.exit(0), ${FAREWELL_MS}))`
  return ['--entrypoint', '/bin/node', SPEAKER, '-e', code]
}

/** Loads the image into a node; it has this Node, so it is large. */
export async function loadSpeaker(daemon: Daemon): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'skein-speaker-'))
  try {
    const output = join(directory, 'speaker.tar')
    await makeDemoImage({ output, tag: SPEAKER, from: 'node' })
    await skeinOk(daemon, 'image', 'load', '--input', output)
  } finally {
    rmSync(directory, { recursive: true })
  }
}

/** `name address` of who answers on a connection; undefined: nobody does. */
export async function speak(
  from: Place,
  to: { readonly host: string; readonly port: number },
): Promise<string | undefined> {
  let socket
  try {
    socket = await from.connect(to.port, to.host)
  } catch {
    return undefined
  }
  let text = ''
  socket.setTimeout(ANSWER_MS, () => socket.destroy())
  socket.on('error', () => {})
  socket.on('data', (chunk) => (text += String(chunk)))
  await new Promise((resolve) => {
    socket.once('end', resolve)
    socket.once('close', resolve)
  })
  socket.destroy()
  return text === '' ? undefined : text.trim()
}

/** A client by datagrams with a port of its own. */
export class DatagramAsker implements Disposable {
  readonly #socket
  readonly #to: { readonly host: string; readonly port: number }

  private constructor(
    socket: ReturnType<typeof createSocket>,
    to: { readonly host: string; readonly port: number },
  ) {
    this.#socket = socket
    this.#to = to
    socket.on('error', () => {})
  }

  static async open(
    from: Place,
    to: { readonly host: string; readonly port: number },
  ): Promise<DatagramAsker> {
    const socket = createSocket(isIPv6(from.address) ? 'udp6' : 'udp4')
    await from.bind(socket)
    return new DatagramAsker(socket, to)
  }

  /** `name address` of who answers; undefined: nobody does. */
  async ask(waitMs = ANSWER_MS): Promise<string | undefined> {
    const { host, port } = this.#to
    this.#socket.send('who', port, host)
    try {
      const [answer] = await once(this.#socket, 'message', { signal: AbortSignal.timeout(waitMs) })
      return String(answer)
    } catch {
      return undefined
    }
  }

  [Symbol.dispose](): void {
    this.#socket.close()
  }
}
