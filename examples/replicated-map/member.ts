/** One member of a replicated map: raft-ts and a state machine, asked over the IPC channel. */
import { json } from 'node:stream/consumers'
import { systemClock as clock } from '../../src/base/clock.ts'
import { silentLogger as log } from '../../src/base/log.ts'
import { systemRandom as random } from '../../src/base/random.ts'
import * as raftTs from '../../src/raft/index.ts'

class MapMachine implements raftTs.StateMachine<string> {
  values = new Map<string, string>()

  apply(entries: readonly raftTs.CommittedEntry[]): readonly string[] {
    return entries.map(({ data }) => {
      const [key, value] = JSON.parse(Buffer.from(data).toString()) as [string, string]
      this.values.set(key, value)
      return value
    })
  }

  async *snapshot(): AsyncGenerator<Uint8Array> {
    yield await Promise.resolve(Buffer.from(JSON.stringify([...this.values])))
  }

  async restore(source: AsyncIterable<Uint8Array>): Promise<void> {
    this.values = new Map((await json(source)) as [string, string][])
  }
}

const [id = '', directory = '', start = '', ...addresses] = process.argv.slice(2)
const stores = {
  logStore: new raftTs.LevelLogStore({ location: `${directory}/${id}/log` }),
  snapshotStore: new raftTs.FileSnapshotStore({ directory: `${directory}/${id}/snapshots` }),
}
const servers = addresses.map((address) => ({ id: address, address, suffrage: 'voter' as const }))
if (start === 'first') await raftTs.Raft.bootstrap(stores, servers)
const transport = await raftTs.TcpTransport.listen({ clock, random, log }, { id, listen: id })
transport.setPeers(new Map(addresses.map((address) => [address, address])))
const stateMachine = new MapMachine()
const components = { clock, random, log, ...stores, transport, stateMachine }
const raft = await raftTs.Raft.open(components, { id, address: id })

async function answer(key: string, value?: string): Promise<void> {
  if (value !== undefined) await raft.apply(Buffer.from(JSON.stringify([key, value])))
  else await raft.waitApplied(await raft.readIndex()) // Now a local read is linearizable.
  process.send?.(stateMachine.values.get(key))
}

process.on('message', ([key, value]: [string, string?]) => {
  answer(key, value).catch((error: unknown) => process.send?.(String(error)))
})
process.on('disconnect', () => void raft.shutdown())
