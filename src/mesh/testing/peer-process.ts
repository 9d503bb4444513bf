/**
 * A member in a process of its own, for tests that kill or stop it. Arguments: its seed and port,
 * the other's seed and address, milliseconds after which it holds the other for dead.
 */
import { nodeKey } from '../../identity/node-key.ts'
import { loopbackMesh } from './swarm.ts'

const [seed = '', port = '', otherSeed = '', otherAddress = '', deadAfterMs = ''] =
  process.argv.slice(2)
const mesh = await loopbackMesh({
  privateKeySeed: Buffer.from(seed, 'hex'),
  listenAddresses: [`/ip4/127.0.0.1/tcp/${port}`],
  timers: { deadAfterMs: Number(deadAfterMs) },
})
mesh.handle('pid', () => Promise.resolve(process.pid))
const { nodeId, peerId } = nodeKey(Buffer.from(otherSeed, 'hex'))
mesh.setMembers([{ nodeId, peerId, addresses: [otherAddress] }])
process.stdout.write(`${JSON.stringify(mesh.self)}\n`)
