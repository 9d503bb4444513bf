/**
 * raft-ts on real meshes: replication, a command of the largest size, a lost leader, a late member.
 */
import test, { type ExecutionContext } from 'ava'
import { systemClock } from '../base/clock.ts'
import type { CommittedEntry, StateMachine } from '../raft/index.ts'
import { MemoryLogStore, MemorySnapshotStore, Raft } from '../raft/index.ts'
import { COMMAND_BYTES_MAX } from '../raft/runtime/options.ts'
import type { MeshHost } from './mesh.ts'
import { RaftTransport } from './raft-transport.ts'
import { components, connectAll, connected, loopbackMesh, until } from './testing/swarm.ts'

/** Remembers the lengths of all commands. */
class Lengths implements StateMachine<number> {
  lengths: number[] = []
  restores = 0

  apply(entries: readonly CommittedEntry[]): readonly number[] {
    return entries.map(({ data }) => this.lengths.push(data.length))
  }

  async *snapshot(): AsyncGenerator<Uint8Array> {
    yield await Promise.resolve(Buffer.from(JSON.stringify(this.lengths)))
  }

  async restore(source: AsyncIterable<Uint8Array>): Promise<void> {
    const chunks: Uint8Array[] = []
    for await (const chunk of source) chunks.push(chunk)
    this.lengths = JSON.parse(Buffer.concat(chunks).toString()) as number[]
    this.restores += 1
  }
}

interface Member {
  readonly mesh: MeshHost
  readonly machine: Lengths
  readonly raft: Raft<number>
}

async function member(t: ExecutionContext, mesh: MeshHost, voters?: string[]): Promise<Member> {
  const machine = new Lengths()
  const stores = { logStore: new MemoryLogStore(), snapshotStore: new MemorySnapshotStore() }
  const servers = voters?.map((id) => ({ id, address: '', suffrage: 'voter' }) as const)
  if (servers !== undefined) await Raft.bootstrap(stores, servers)
  const transport = new RaftTransport({ mesh, log: components.log })
  const raft = await Raft.open(
    { ...stores, ...components, transport, stateMachine: machine },
    { id: mesh.self.nodeId, address: '', trailingEntries: 10 },
  )
  t.teardown(() => raft.shutdown())
  return { mesh, machine, raft }
}

async function group(t: ExecutionContext, size: number): Promise<Member[]> {
  const meshes = await Promise.all(Array.from({ length: size }, () => loopbackMesh()))
  t.teardown(() => Promise.all(meshes.map((mesh) => mesh.close())))
  connectAll(meshes)
  await connected(meshes)
  const voters = meshes.map((mesh) => mesh.self.nodeId)
  const members = await Promise.all(meshes.map((mesh) => member(t, mesh, voters)))
  await until(() => leaderOf(members) !== undefined)
  return members
}

function leaderOf(members: readonly Member[]): Member | undefined {
  return members.find(({ raft }) => raft.role === 'leader')
}

test('a group replicates commands of every size over the mesh', async (t) => {
  const members = await group(t, 3)
  const leader = leaderOf(members)
  const lengths = [...Array.from({ length: 200 }, (_, n) => n + 1), 100_000, COMMAND_BYTES_MAX]
  await Promise.all(lengths.map(async (length) => leader?.raft.apply(new Uint8Array(length))))
  await until(() => members.every(({ machine }) => machine.lengths.length === lengths.length))
  for (const { machine } of members) t.deepEqual(machine.lengths, leader?.machine.lengths)
  t.is(leaderOf(members), leader)
})

test('when the leader’s process goes, another leads soon and nothing is lost', async (t) => {
  const members = await group(t, 3)
  const leader = leaderOf(members)
  await leader?.raft.apply(new Uint8Array(1))
  const rest = members.filter((one) => one !== leader)
  const startMs = systemClock.monotonicMs()
  await leader?.mesh.close()
  await until(() => leaderOf(rest) !== undefined)
  t.log(`a new leader after ${Math.round(systemClock.monotonicMs() - startMs)} ms`)
  await leaderOf(rest)?.raft.apply(new Uint8Array(2))
  await until(() => rest.every(({ machine }) => machine.lengths.length === 2))
  t.deepEqual(rest[0]?.machine.lengths, [1, 2])
})

test('a late member gets the state as a snapshot', async (t) => {
  const members = await group(t, 1)
  const [leader] = members
  if (leader === undefined) throw new Error('no member')
  for (let n = 1; n <= 100; n += 1) await leader.raft.apply(new Uint8Array(n))
  await leader.raft.snapshot()
  const mesh = await loopbackMesh()
  t.teardown(() => mesh.close())
  connectAll([leader.mesh, mesh])
  const late = await member(t, mesh)
  await leader.raft.addLearner(mesh.self.nodeId, '')
  await until(() => late.machine.lengths.length === 100)
  t.is(late.machine.restores, 1)
  await leader.raft.apply(new Uint8Array(101))
  await until(() => late.machine.lengths.length === 101)
  t.deepEqual(late.machine.lengths, leader.machine.lengths)
})
