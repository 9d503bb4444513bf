/**
 * What one round of the crash test does to the members. All of it is drawn from the seed; when the
 * blows fall relative to the members' own work is the machine's chance, which is the point.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Random } from '../../src/base/random.ts'
import type { Member } from './member.ts'

const CALM_MS_MAX = 500
const DOWN_MS_MAX = 700
/** From less than one election timeout to several. */
const FROZEN_MS_MAX = 2500
const TRANSFER_MS_MAX = 50
const TRANSFERS = 4

/** Counts of what was done. */
export interface Blows {
  kills: number
  freezes: number
  cuts: number
  transfers: number
  /** Members that were replaced by new ones: learner, voter, the old one removed. */
  replacements: number
}

/** What a blow is dealt with. */
export interface Arena {
  readonly members: readonly Member[]
  /** Replaces the member at this position by a new one; calls `disturb` between the steps. */
  readonly replace: (position: number, disturb: () => Promise<void>) => Promise<void>
  readonly random: Random
  readonly blows: Blows
  /** Position of the member that seems to lead. */
  readonly leader: () => number
}

type Fault = (arena: Arena) => Promise<void>

/** Each kills at least one process; how often it comes is how often it is listed. */
const FAULTS: readonly Fault[] = [
  killOne,
  killOne,
  killLeader,
  killLeader,
  killLeader,
  killTwo,
  killAll,
  killWhileStarting,
  freezeLeaderThenKillOther,
  freezeThenKill,
  transferThenKill,
  cutLeaderThenKill,
  cutLeaderThenKill,
  transferWhilePausing,
  replaceOne,
  replaceOne,
  replaceOne,
  replaceLeader,
]

/** One round: calm, a fault, and everybody back. */
export async function dealBlow(arena: Arena): Promise<string> {
  const { members, random } = arena
  await pause(arena, CALM_MS_MAX)
  const fault = FAULTS[random.integer(FAULTS.length)] ?? killOne
  await fault(arena)
  for (const member of shuffled(members, random)) {
    if (member.isFrozen) member.thaw()
    if (member.isRunning) continue
    await pause(arena, DOWN_MS_MAX)
    member.start()
  }
  return fault.name
}

async function killOne(arena: Arena): Promise<void> {
  await kill(arena, anyOf(arena))
}

async function killLeader(arena: Arena): Promise<void> {
  await kill(arena, leaderOf(arena))
}

async function killTwo(arena: Arena): Promise<void> {
  const [first, second] = shuffled(arena.members, arena.random)
  await Promise.all([kill(arena, first), kill(arena, second)])
}

/** As when the power fails, but that the kernel's memory survives. */
async function killAll(arena: Arena): Promise<void> {
  await Promise.all(arena.members.map((member) => kill(arena, member)))
}

/** Killed, started, and killed while it reads its log or catches up. */
async function killWhileStarting(arena: Arena): Promise<void> {
  const victim = anyOf(arena)
  await kill(arena, victim)
  victim?.start()
  await pause(arena, DOWN_MS_MAX)
  await kill(arena, victim)
}

/** The leader sleeps, perhaps through an election, and wakes up believing that it leads. */
async function freezeLeaderThenKillOther(arena: Arena): Promise<void> {
  const leader = leaderOf(arena)
  freeze(arena, leader)
  await pause(arena, FROZEN_MS_MAX)
  leader?.thaw()
  await pause(arena, CALM_MS_MAX)
  await kill(arena, anyOf(arena))
}

async function freezeThenKill(arena: Arena): Promise<void> {
  const victim = anyOf(arena)
  freeze(arena, victim)
  await pause(arena, FROZEN_MS_MAX)
  await kill(arena, victim)
}

async function transferThenKill(arena: Arena): Promise<void> {
  const leader = leaderOf(arena)
  arena.blows.transfers += 1
  void leader?.request({ type: 'transfer' })
  await pause(arena, 50)
  await kill(arena, leader)
}

/** The leader still answers clients, if it is wrong, while the others have elected another. */
async function cutLeaderThenKill(arena: Arena): Promise<void> {
  const leader = leaderOf(arena)
  arena.blows.cuts += 1
  void leader?.request({ type: 'cut', isCut: true })
  await pause(arena, FROZEN_MS_MAX)
  void leader?.request({ type: 'cut', isCut: false })
  await pause(arena, CALM_MS_MAX)
  await kill(arena, anyOf(arena))
}

/** Leadership goes round while members sleep and wake; then one is killed. */
async function transferWhilePausing(arena: Arena): Promise<void> {
  for (let turn = 0; turn < TRANSFERS; turn += 1) {
    const sleeper = arena.random.integer(2) === 0 ? anyOf(arena) : leaderOf(arena)
    arena.blows.transfers += 1
    void leaderOf(arena)?.request({ type: 'transfer' })
    await pause(arena, TRANSFER_MS_MAX)
    freeze(arena, sleeper)
    await pause(arena, CALM_MS_MAX)
    sleeper?.thaw()
  }
  await kill(arena, anyOf(arena))
}

/** A new member is added, caught up and promoted, an old one removed, and some are killed meanwhile. */
async function replaceOne(arena: Arena): Promise<void> {
  await replace(arena, arena.random.integer(arena.members.length))
}

async function replaceLeader(arena: Arena): Promise<void> {
  await replace(arena, arena.leader())
}

async function replace(arena: Arena, position: number): Promise<void> {
  arena.blows.replacements += 1
  await arena.replace(position, async () => {
    await pause(arena, CALM_MS_MAX)
    const victim = arena.random.integer(2) === 0 ? leaderOf(arena) : anyOf(arena)
    const kind = arena.random.integer(4)
    if (kind === 0) freeze(arena, victim)
    else if (kind < 3) await kill(arena, victim)
    await pause(arena, CALM_MS_MAX)
    if (victim?.isFrozen === true) victim.thaw()
    victim?.start()
  })
  await kill(arena, anyOf(arena))
}

async function kill({ blows }: Arena, member: Member | undefined): Promise<void> {
  if (member?.isRunning !== true) return
  blows.kills += 1
  await member.kill()
}

function freeze({ blows }: Arena, member: Member | undefined): void {
  blows.freezes += 1
  member?.freeze()
}

function anyOf({ members, random }: Arena): Member | undefined {
  return members[random.integer(members.length)]
}

function leaderOf({ members, leader }: Arena): Member | undefined {
  return members[leader()]
}

function pause({ random }: Arena, limitMs: number): Promise<void> {
  return sleep(random.integer(limitMs))
}

function shuffled<T>(values: readonly T[], random: Random): readonly T[] {
  const result = [...values]
  for (let last = result.length - 1; last > 0; last -= 1) {
    const other = random.integer(last + 1)
    const [a, b] = [result[last], result[other]]
    if (a === undefined || b === undefined) continue
    result[last] = b
    result[other] = a
  }
  return result
}
