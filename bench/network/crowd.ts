/**
 * Program in the clients' namespace: opens many connections to `HOST PORT COUNT`, asks once on each
 * and then says nothing. Tells its parent how many were answered and how many were reset, and again
 * after each message, when it has asked on all of them once more.
 */
import { connect } from 'node:net'
import type { Socket } from 'node:net'

/** What it answers. */
export interface CrowdState {
  readonly answered: number
  readonly reset: number
}

/** Connections opened at a time: fewer than a listener's backlog. */
const AT_ONCE = 200
const REQUEST = 'GET / HTTP/1.1\r\nHost: bench\r\n\r\n'

const [host = '', port = '', count = ''] = process.argv.slice(2)
const sockets = new Set<Socket>()

function ask(socket: Socket): Promise<boolean> {
  return new Promise((resolve) => {
    socket.once('data', () => resolve(true))
    socket.once('close', () => resolve(false))
    socket.write(REQUEST)
  })
}

function open(): Promise<boolean> {
  const socket = connect({ host, port: Number(port) })
  sockets.add(socket)
  socket.on('error', () => {})
  socket.once('close', () => sockets.delete(socket))
  return ask(socket)
}

async function openAll(): Promise<CrowdState> {
  let answered = 0
  for (let opened = 0; opened < Number(count); opened += AT_ONCE) {
    const part = Math.min(AT_ONCE, Number(count) - opened)
    const results = await Promise.all(Array.from({ length: part }, open))
    answered += results.filter(Boolean).length
  }
  return { answered, reset: Number(count) - answered }
}

async function askAll(): Promise<CrowdState> {
  const results: boolean[] = []
  for (const socket of sockets) results.push(await ask(socket))
  const answered = results.filter(Boolean).length
  return { answered, reset: results.length - answered }
}

process.on('message', () => {
  void askAll().then((state) => process.send?.(state))
})
process.on('disconnect', () => process.exit(0))
process.send?.(await openAll())
