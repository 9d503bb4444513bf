import { generateKeyPair } from '@libp2p/crypto/keys'
import type { ComponentLogger, Logger, MessageStream } from '@libp2p/interface'
import { noise } from '@libp2p/noise'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { multiaddrConnectionPair } from '@libp2p/utils'
import test from 'ava'
import { wholeWrites } from './whole-writes.ts'

const silent: Logger = Object.assign(() => {}, {
  error: () => {},
  trace: () => {},
  enabled: false,
  newScope: (): Logger => silent,
})
const logger: ComponentLogger = { forComponent: () => silent }

/** Both ends of a connection that real Noise encrypts. */
async function secured(): Promise<readonly [MessageStream, MessageStream]> {
  const ends = multiaddrConnectionPair()
  const encrypters = await Promise.all(
    ends.map(async () => {
      const privateKey = await generateKeyPair('Ed25519')
      const upgrader = { getStreamMuxers: () => new Map() }
      const own = { privateKey, peerId: peerIdFromPrivateKey(privateKey), logger, upgrader }
      return wholeWrites(noise(), 1_000_000)(own as never)
    }),
  )
  const [dialled, answered] = await Promise.all([
    encrypters[0]?.secureOutbound(ends[0]),
    encrypters[1]?.secureInbound(ends[1]),
  ])
  if (dialled === undefined || answered === undefined) throw new Error('two encrypters are made')
  return [dialled.connection, answered.connection]
}

test.serial('encrypted messages are told apart without throwing', async (t) => {
  const [from, to] = await secured()
  const sizes = [1, 300, 70_000, 2, 65_519, 40]
  const wanted = sizes.reduce((sum, size) => sum + size, 0)
  let thrown = 0
  const original = globalThis.RangeError
  globalThis.RangeError = new Proxy(original, {
    apply: (target, self, words: unknown[]) => {
      thrown += 1
      return Reflect.apply(target, self, words) as unknown
    },
  })
  try {
    const received: Uint8Array[] = []
    const { promise, resolve } = Promise.withResolvers<void>()
    to.addEventListener('message', ({ data }) => {
      received.push(data.subarray())
      if (received.reduce((sum, { length }) => sum + length, 0) >= wanted) resolve()
    })
    for (const [n, size] of sizes.entries()) from.send(new Uint8Array(size).fill(n + 1))
    await promise
    const bytes = Buffer.concat(received)
    t.is(bytes.length, wanted)
    let at = 0
    for (const [n, size] of sizes.entries()) {
      t.true(bytes.subarray(at, at + size).every((byte) => byte === n + 1))
      at += size
    }
    t.is(thrown, 0)
  } finally {
    globalThis.RangeError = original
  }
})
