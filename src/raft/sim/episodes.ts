/**
 * Episodes: the situations that runs are about (`focus.ts`), as actions like all others, so that
 * shrinking takes them apart again. Times are in election timeouts after the episode's beginning.
 */
import type { Dice } from './dice.ts'
import { OPERATED_EPISODES } from './operated-episodes.ts'
import { electionMs, type Plan } from './plan.ts'
import { SIDES } from './schedule.ts'
import { Scene } from './scene.ts'
import type { Episode } from './scene.ts'
import type { Action, Shape } from './actions.ts'
import type { Focus } from './foci.ts'

/** Mean time between two episodes, in election timeouts. */
const EPISODE_GAP = 4
/** Chance that the last one is not over when everything heals, but for those that never return. */
const FINALE = 0.6

/** Puts episodes between `actions`. */
export function addEpisodes(actions: readonly Action[], plan: Plan, dice: Dice): readonly Action[] {
  const { focus, timeouts } = plan
  if (focus === undefined) return actions
  const added: Action[] = []
  const play = (at: number): void => EPISODES[focus](new Scene(dice, plan, { at, added }))
  const gap = dice.between(0.7, 1.5) * EPISODE_GAP
  for (let at = 2; at < timeouts; at += LENGTHS[focus] + dice.exponential(gap)) play(at)
  if (dice.chance(FINALE)) play(timeouts - dice.between(0.2, 1) * LENGTHS[focus])
  const endMs = timeouts * electionMs(plan)
  const inTime = added.filter(({ atMs }) => atMs < endMs)
  return [...actions, ...inTime].toSorted((a, b) => a.atMs - b.atMs)
}

/** How long the interesting part of an episode is, in election timeouts. */
const LENGTHS: { readonly [focus in Focus]: number } = {
  stranded: 4,
  flapping: 8,
  slowMachine: 3,
  impatient: 3,
  reshaping: 3.5,
  lateAnswers: 2,
  slowWinner: 2,
  standoff: 10,
  lastWord: 4,
  clocksApart: 4,
  halfHeard: 7,
  broughtState: 4,
}

const EPISODES: { readonly [focus in Focus]: Episode } = {
  stranded(scene) {
    const { dice } = scene
    const length = dice.between(1.5, 6)
    scene.isolate(0, 'leader', length)
    for (let after = 0.01; after < 0.8; after += dice.exponential(0.2)) {
      scene.write(after, 'leader', dice.integer(1, 20))
    }
    // By now somebody else leads.
    for (let after = 1.5; after < length; after += dice.exponential(0.5)) {
      scene.write(after, 'leader', dice.integer(1, 20))
    }
  },

  flapping(scene) {
    const { dice } = scene
    if (dice.chance(0.6)) return goRound(scene)
    scene.slowDisk(0, dice.chance(0.5) ? 'leader' : scene.someone(), dice.between(2, 8), 10)
    scene.write(0.01, 'leader', dice.integer(1, 3))
    scene.add({
      atMs: scene.atMs(0.02),
      type: 'storm',
      machines: dice.integer(0, SIDES - 1),
      loss: dice.pick([0, 0.3, 0.7]),
      blackHole: dice.chance(0.7),
      forMs: dice.between(3, 9) * scene.unitMs,
    })
    for (let after = 0.05; after < 8; after += dice.between(1, 2.5)) {
      scene.isolate(after, 'leader', dice.between(0.8, 1.5))
      scene.write(after + dice.between(0.5, 2), 'leader', dice.integer(1, 3))
    }
  },

  slowMachine(scene) {
    const { dice } = scene
    scene.write(0, 'leader', dice.integer(1, 12))
    scene.change(0.05, dice.pick(['learner', 'voter', 'promote', 'demote', 'remove']))
    scene.write(0.1, 'leader', dice.integer(0, 5))
    const forMs = dice.between(0.01, 0.5) * scene.unitMs
    const atMs = scene.atMs(dice.between(0.2, 2))
    if (dice.chance(0.5)) scene.add({ atMs, type: 'blackout', forMs })
    else scene.crash(dice.between(0.2, 2), 'leader', dice.between(0.1, 3))
  },

  impatient(scene) {
    const { dice } = scene
    scene.slowDisk(0, 'leader', dice.between(0.5, 4), 6)
    for (let after = 0.01; after < 4; after += dice.exponential(0.3)) {
      scene.write(after, 'leader', dice.integer(1, 3))
    }
  },

  reshaping(scene) {
    const { dice, delay } = scene
    scene.change(0, dice.pick(['learner', 'learner', 'voter', 'remove']))
    scene.change(1.5, dice.pick(['swap', 'swap', 'swap', 'demote', 'remove', 'promote']))
    const after = 1.5 + dice.between(0, 6) * delay
    const length = dice.between(1, 6)
    const old = dice.integer(0, 5)
    if (dice.chance(0.5)) {
      // What is on its way arrives; what the leader sends to old machines from now on waits.
      const [atMs, forMs] = [scene.atMs(1.5 + 0.2 * (after - 1.5)), length * scene.unitMs]
      for (let to = 0; to <= old; to += 1) {
        scene.add({ atMs, type: 'clog', from: 'leader', to, forMs })
      }
    } else {
      const shape = dice.pick<Shape>(['generations', 'generations', 'isolate', 'mute', 'split'])
      scene.partition(after, { shape, who: 'leader', sides: dice.integer(0, SIDES - 1) }, length)
    }
    for (let write = after; write < after + 4; write += dice.exponential(0.3)) {
      scene.write(write, dice.chance(0.5) ? 'leader' : scene.someone(), 1)
    }
  },

  lateAnswers(scene) {
    const { dice } = scene
    const reader = scene.someone()
    for (let life = 0; life < 3; life += 1) {
      const start = 2 * life
      for (let after = start; after < start + 1.9; after += dice.exponential(0.1)) {
        scene.read(after, reader)
        if (dice.chance(0.3)) scene.write(after, 'leader', 1)
      }
      scene.crash(start + 1.95, reader, 0.02)
    }
  },

  slowWinner(scene) {
    const { dice } = scene
    const winner = scene.someone()
    scene.slowDisk(0, winner, dice.between(1, 6), 3)
    // Votes pass, entries do not.
    if (dice.chance(0.6)) scene.blackHole(0, SIDES - 1, 3)
    scene.add({ atMs: scene.atMs(0.001), type: 'transfer', who: winner })
    scene.crash(dice.between(0.02, 1), winner, dice.between(0, 0.1))
    scene.write(dice.between(0.1, 1), 'leader', 2)
  },

  standoff(scene) {
    const { dice } = scene
    scene.isolate(0, 'leader', 10)
    scene.write(0.01, 'leader', dice.integer(1, 12))
    scene.add({
      atMs: scene.atMs(0.02),
      type: 'storm',
      machines: SIDES - 1,
      loss: dice.between(0.4, 0.8),
      blackHole: false,
      forMs: 12 * scene.unitMs,
    })
  },

  lastWord(scene) {
    const { dice } = scene
    // Two voters again, if the last episode left one.
    scene.change(0, dice.pick(['promote', 'promote', 'learner']))
    scene.change(1, dice.pick(['promote', 'learner']))
    scene.change(2, dice.pick(['demote', 'demote', 'remove']))
    // Its proposal is on its way; nothing else that is sent to the others arrives, answers do.
    const machines = SIDES - 1 - (1 << dice.integer(0, scene.voters))
    const forMs = dice.between(0.3, 2) * scene.unitMs
    scene.add({
      atMs: scene.atMs(2.001),
      type: 'storm',
      machines,
      loss: 1,
      blackHole: false,
      forMs,
    })
    scene.write(2.002, 'leader', dice.integer(1, 3))
  },

  ...OPERATED_EPISODES,
}

/**
 * Two sites, the tunnel into one of them broken for what is large: leadership goes from a member
 * with a slow disk to one that reaches nobody but it, and on to one that has what the first wrote.
 */
function goRound(scene: Scene): void {
  const { dice } = scene
  const [slow, second] = dice.pair(GO_ROUND_VOTERS)
  const near = (1 << slow) | (1 << second)
  scene.add({ atMs: scene.atMs(0), type: 'transfer', who: slow })
  scene.slowDisk(0.6, slow, dice.between(3, 10), 9)
  scene.blackHole(0.61, ~near & (SIDES - 1), dice.between(6, 9))
  scene.partition(0.62, { shape: 'split', who: slow, sides: near }, 4)
  scene.write(0.63, slow, dice.integer(1, 3))
  const turn = dice.between(2.2, 3.5)
  scene.partition(turn, { shape: 'pair', who: 'leader', sides: slow }, 4)
  const next = turn + dice.between(0.2, 0.9)
  scene.isolate(next, 'leader', 3)
  scene.write(next + dice.between(1, 2.5), 'leader', 1)
}

/** Voters of a run in which leadership goes round. */
const GO_ROUND_VOTERS = 5
