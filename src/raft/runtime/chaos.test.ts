/**
 * Seeded disorder: partitions, one-way cuts, lost messages, crashes that lose unwritten data,
 * broken snapshot transfers, changes of membership and of leaders. Afterwards everything heals,
 * and then: all members hold the same commands; what was acknowledged is there, once; what was
 * refused as without effect is not; no read was older than a write that was acknowledged before it
 * was asked for. A failure names its seed: `CHAOS_SEED=<seed> npx ava
 * src/raft/runtime/chaos.test.ts`.
 */
import { env } from 'node:process'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { at } from '../../base/assert.ts'
import { isSwarmError } from '../../base/errors.ts'
import { seededRandom, type Random } from '../../base/random.ts'
import { MemoryLogStore } from '../storage/memory-log-store.ts'
import { MemorySnapshotStore } from '../storage/memory-snapshot-store.ts'
import { MemoryCluster } from './memory-cluster.ts'
import type { Raft } from './raft.ts'
import { SlowLogStore } from './slow-log-store.ts'

const SEEDS = Number(env['CHAOS_SEEDS'] ?? (env['CHAOS_SEED'] === undefined ? 12 : 1))
const FIRST_SEED = Number(env['CHAOS_SEED'] ?? 1)
const STEPS = 150
const IDS = ['n1', 'n2', 'n3', 'n4', 'n5']

/** One run: the group, what clients did, and what came of it. */
class Disorder {
  readonly cluster: MemoryCluster
  readonly random: Random
  readonly acknowledged = new Set<string>()
  readonly withoutEffect = new Set<string>()
  readonly staleReads: string[] = []
  readonly calls: Promise<void>[] = []
  #made = 0
  #highest = 0

  constructor(cluster: MemoryCluster, random: Random) {
    this.cluster = cluster
    this.random = random
  }

  pick<T>(list: readonly T[]): T {
    return at(list, this.random.integer(list.length))
  }

  /** Commands go to whoever thinks that it leads, be it wrong. */
  write(): void {
    for (const raft of this.cluster.running) {
      if (raft.role !== 'leader') continue
      for (let count = this.random.integer(6); count >= 0; count -= 1) this.#write(raft)
    }
  }

  #write(raft: Raft<number>): void {
    this.#made += 1
    const command = `c${this.#made}`
    this.calls.push(this.#outcome(raft, command).catch(expectSwarmError))
  }

  async #outcome(raft: Raft<number>, command: string): Promise<void> {
    try {
      const { index } = await raft.apply(new TextEncoder().encode(command), { timeoutMs: 4000 })
      this.acknowledged.add(command)
      this.#highest = Math.max(this.#highest, index)
    } catch (error) {
      if (isSwarmError(error, 'NOT_LEADER')) this.withoutEffect.add(command)
      throw error
    }
  }

  read(): void {
    const raft = this.pick(this.cluster.running)
    this.calls.push(this.#read(raft, this.#highest).catch(expectSwarmError))
  }

  async #read(raft: Raft<number>, known: number): Promise<void> {
    const index = await raft.readIndex({ timeoutMs: 4000 })
    if (index < known) this.staleReads.push(`${raft.id} read ${index}, ${known} was known`)
  }

  changeMembers(): void {
    const leader = this.cluster.running.find(({ role }) => role === 'leader')
    if (leader === undefined) return
    const id = this.pick(IDS)
    const suffrage = leader.configuration.servers.find((each) => each.id === id)?.suffrage
    const options = { timeoutMs: 2000 }
    const learner = leader.configuration.servers.find((each) => each.suffrage === 'learner')
    const change = async (): Promise<void> => {
      if (suffrage === 'voter' && learner !== undefined && this.random.integer(2) === 0) {
        await leader.changeMembership(
          [
            { type: 'demoteVoter', id },
            { type: 'addVoter', id: learner.id, address: learner.address },
          ],
          options,
        )
      } else if (suffrage === 'voter') await leader.demoteVoter(id, options)
      else if (this.random.integer(4) > 0) await leader.addVoter(id, `at-${id}`, options)
      else await leader.transferLeadership(undefined, options)
    }
    this.calls.push(change().catch(expectSwarmError))
  }

  async crash(): Promise<void> {
    if (this.cluster.running.length > 2) await this.#cutPower([this.pick(this.cluster.running)])
  }

  /** Everyone loses power at the same moment and comes back. */
  async blackout(): Promise<void> {
    const ids = this.cluster.running.map(({ id }) => id)
    await this.#cutPower(this.cluster.running)
    for (const id of ids) await this.cluster.settled(this.cluster.up(id))
  }

  /** One loses power for a moment. */
  async flicker(): Promise<void> {
    const raft = this.pick(this.cluster.running)
    await this.#cutPower([raft])
    await this.cluster.settled(this.cluster.up(raft.id))
  }

  async #cutPower(victims: readonly Raft<number>[]): Promise<void> {
    const closed = this.random.integer(2) === 0
    for (const { id } of victims) {
      const { logStore } = this.cluster.place(id)
      if (logStore instanceof SlowLogStore) logStore.crash()
    }
    const ends = victims.map(({ id }) => this.cluster.down(id, { closed }))
    await this.cluster.settled(Promise.all(ends))
  }

  async restart(): Promise<void> {
    const down = IDS.filter((id) => this.cluster.place(id).raft === undefined)
    if (down.length > 0) await this.cluster.settled(this.cluster.up(this.pick(down)))
  }

  partition(): void {
    const side = IDS.filter(() => this.random.integer(2) === 0)
    this.cluster.network.cut(
      side,
      IDS.filter((id) => !side.includes(id)),
    )
  }

  async step(): Promise<void> {
    const { network, clock } = this.cluster
    const choice = this.random.integer(100)
    if (choice < 45) this.write()
    else if (choice < 60) this.read()
    else if (choice < 64) this.partition()
    else if (choice < 67) network.cutOneWay(this.pick(IDS), this.pick(IDS))
    else if (choice < 71) network.drop(() => this.random.integer(10) === 0)
    else if (choice < 81) network.heal()
    else if (choice < 86) await this.crash()
    else if (choice < 92) await this.restart()
    else if (choice < 94) await this.blackout()
    else if (choice < 96) await this.flicker()
    else if (choice < 98) network.breakSnapshots(1)
    else this.changeMembers()
    await clock.advance(this.random.integer(choice % 10 === 0 ? 3000 : 150))
  }

  async settle(): Promise<void> {
    this.cluster.network.heal()
    this.cluster.network.breakSnapshots(0)
    for (const id of IDS) {
      if (this.cluster.place(id).raft === undefined) await this.cluster.settled(this.cluster.up(id))
    }
    await this.cluster.settled(Promise.all(this.calls))
    const leader = await this.cluster.leader()
    await this.cluster.settled(leader.barrier())
    await this.cluster.converged()
  }
}

function expectSwarmError(error: unknown): void {
  if (!isSwarmError(error)) throw error
}

async function run(t: ExecutionContext, seed: number): Promise<void> {
  const random = seededRandom(seed)
  const cluster = await MemoryCluster.start(IDS.length, {
    seed: seed * 1000,
    raft: { snapshotThreshold: 20, trailingEntries: 5, electionTicks: 5 },
    stores: (_id, clock) => ({
      logStore: new SlowLogStore({ disk: new MemoryLogStore(), clock, random }, 30),
      snapshotStore: new MemorySnapshotStore(),
    }),
  })
  const disorder = new Disorder(cluster, random)
  for (let step = 0; step < STEPS; step += 1) await disorder.step()
  await disorder.settle()
  const commands = cluster.commands('n1')
  for (const id of IDS) t.deepEqual(cluster.commands(id), commands, `seed ${seed}: ${id}`)
  const counts = new Map<string, number>()
  for (const command of commands) counts.set(command, (counts.get(command) ?? 0) + 1)
  const lost = [...disorder.acknowledged].filter((command) => counts.get(command) !== 1)
  const haunting = [...disorder.withoutEffect].filter((command) => counts.has(command))
  t.deepEqual(lost, [], `seed ${seed}: acknowledged, but not applied once`)
  t.deepEqual(haunting, [], `seed ${seed}: said to have no effect, but applied`)
  t.deepEqual(disorder.staleReads, [], `seed ${seed}`)
  t.true(disorder.acknowledged.size > 10, `seed ${seed}: something was written`)
  for (const raft of cluster.running) await cluster.settled(raft.shutdown())
}

for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed += 1) {
  test(`seed ${seed}: disorder loses nothing that was acknowledged`, (t) => run(t, seed))
}
