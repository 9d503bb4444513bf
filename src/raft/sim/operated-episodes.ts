/** Episodes with operators and sharp-eyed clients in them (see `episodes.ts`, `focus.ts`). */
import { LEASE_DRIFT } from './operations.ts'
import type { Scene, Episode } from './scene.ts'
import type { Shape, Prelude } from './actions.ts'
import type { OPERATED_FOCI } from './foci.ts'

/** How long the voters who lost the leader do without it, in election timeouts. */
const LOST = 6

/** Episodes of `OPERATED_FOCI`. */
export const OPERATED_EPISODES: { readonly [focus in (typeof OPERATED_FOCI)[number]]: Episode } = {
  clocksApart(scene) {
    const { dice } = scene
    for (let node = 0; node < scene.voters; node += 1) runAt(scene, node, 1 + LEASE_DRIFT)
    runAt(scene, 'leader', 1 - LEASE_DRIFT)
    cutLeader(scene, dice.between(0.5, 1.5), dice.pick(['nothing', 'nothing', 'reset']))
  },

  halfHeard(scene) {
    const { dice } = scene
    const first = scene.someone()
    const forMs = LOST * scene.unitMs
    for (let lost = first; lost < first + scene.voters / 2 - 1; lost += 1) {
      scene.add({ atMs: scene.atMs(0), type: 'clog', from: 'leader', to: lost, forMs })
      scene.add({ atMs: scene.atMs(0), type: 'clog', from: lost, to: 'leader', forMs })
    }
    cutLeader(scene, dice.between(1.5, LOST - 1), dice.pick(['restartHearing', 'reset']))
  },

  broughtState(scene) {
    const { dice } = scene
    const kind = dice.pick(['growth', 'growth', 'swap', 'deposed'])
    if (kind === 'growth') duringGrowth(scene)
    else if (kind === 'swap') {
      scene.change(0, 'learner')
      scene.change(2.5, 'swap')
      restore(scene, 2.5 + dice.between(0, 3) * scene.delay)
    } else {
      restore(scene, 0.1)
      const length = dice.between(1, 4)
      const shape = dice.pick<Shape>(['isolate', 'deaf', 'mute'])
      scene.partition(dice.between(0.1, 0.6), { shape, who: 'leader', sides: 0 }, length)
    }
  },
}

/** A voter with an empty disk comes in, and a state is brought before it has anything. */
function duringGrowth(scene: Scene): void {
  const { dice } = scene
  // Of several voters one is away, so that the new one is needed.
  if (scene.voters > 1 && dice.chance(0.7)) scene.crash(0, scene.someone(), dice.between(4, 40))
  scene.slowDisk(1, 'leader', dice.between(0.02, 0.3), dice.between(0.5, 2))
  scene.write(1.2, 'leader', dice.integer(1, 12))
  scene.change(1.25, 'voter')
  restore(scene, 1.25 + dice.pick([0, 0, dice.between(0, 2)]) * scene.delay)
}

function restore(scene: Scene, after: number): void {
  const gapMs = scene.dice.pick([0, 0.01, 0.1]) * scene.unitMs
  scene.add({ atMs: scene.atMs(after), type: 'restore', fate: 'whole', gapMs })
}

function runAt(scene: Scene, who: number | 'leader', rate: number): void {
  scene.add({ atMs: scene.atMs(0), type: 'clock', who, rate, leapMs: 0 })
}

/** The leader loses all others, and its clients go on asking it. */
function cutLeader(scene: Scene, after: number, prelude: Prelude): void {
  const forMs = scene.unitMs * scene.dice.between(1.5, 3)
  const cut = { prelude, who: scene.someone(), key: scene.key(), delayMs: 0, forMs, wallBackMs: 0 }
  scene.add({ atMs: scene.atMs(after), type: 'cutLeader', ...cut })
}
