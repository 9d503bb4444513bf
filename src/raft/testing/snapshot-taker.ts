/**
 * The victim of the test of broken transfers: listens with TCP on a free port, prints it, and takes
 * snapshots into the directory at `process.argv[2]`, until it is killed. Prints the bytes that have
 * come, and `stored` when one is whole.
 */
import { argv, stdout } from 'node:process'
import { systemClock } from '../../base/clock.ts'
import { silentLogger } from '../../base/log.ts'
import { systemRandom } from '../../base/random.ts'
import type { SnapshotTransfer } from '../runtime/ports.ts'
import { SnapshotReceiver } from '../runtime/snapshot-receiver.ts'
import { FileSnapshotStore } from '../storage/file-snapshot-store.ts'
import { TcpTransport } from '../transport/tcp-transport.ts'

const [, , directory = '', listen = '127.0.0.1:0'] = argv
const components = { clock: systemClock, random: systemRandom, log: silentLogger }
const print = (line: string): boolean => stdout.write(`${line}\n`)

/** Tells of each chunk; slow, so that there is a middle in which to die. */
function slowly(transfer: SnapshotTransfer): SnapshotTransfer {
  const read = async function* read(offset: number): AsyncGenerator<Uint8Array> {
    for await (const chunk of transfer.read(offset)) {
      await new Promise((resolve) => systemClock.after(2, () => resolve(undefined)))
      print(`took ${chunk.length}`)
      yield chunk
    }
  }
  return { ...transfer, read }
}

const snapshotStore = new FileSnapshotStore({ directory })
await snapshotStore.open()
const receiver = new SnapshotReceiver({ clock: systemClock, snapshotStore })
const transport = await TcpTransport.listen(components, { id: 'b', listen })
transport.start({
  onMessage: () => {},
  onSnapshot: async (_from, transfer) => {
    await receiver.receive(slowly(transfer))
    print('stored')
  },
  onUnreachable: () => {},
})
print(transport.address)
