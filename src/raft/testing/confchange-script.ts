/**
 * Runs the commands of configuration-change scripts: `simple`, `enter-joint`, `leave-joint`, on one
 * configuration that starts empty. Source: etcd-io/raft `confchange/datadriven_test.go`, in its
 * observable behaviour.
 */
import { ConfChanger, type ChangeResult } from '../core/conf-changer.ts'
import type { ConfChangeSingle } from '../core/entry.ts'
import { Tracker } from '../core/tracker.ts'
import { CHANGE_LETTERS, describeConf, describeProgressMap } from './describe.ts'
import { CommandError, valueOf, type ScriptCase } from './script.ts'

/** Windows of members in scripts: the size is never reached there. */
const LIMITS = { maxInflightMessages: 10, maxInflightBytes: Number.MAX_SAFE_INTEGER }

/** A configuration under test. */
export class ConfChangeScript {
  #tracker = new Tracker(LIMITS)
  /** Grows by one a case, so that the point from which a member is probed tells when it came. */
  #lastIndex = 0

  /** The output of one case. */
  run(test: ScriptCase): string {
    const changer = new ConfChanger(this.#tracker, this.#lastIndex)
    this.#lastIndex += 1
    const result = perform(changer, test)
    if (!result.ok) return `${result.reason}\n`
    this.#tracker = result.tracker
    const progress = this.#tracker.entries().map(([id, value]) => [id, value.status()] as const)
    return `${describeConf(this.#tracker.confState())}\n${describeProgressMap(progress)}`
  }
}

function perform(changer: ConfChanger, test: ScriptCase): ChangeResult {
  const changes = parseChanges(test.input)
  switch (test.command) {
    case 'simple':
      return changer.simple(changes)
    case 'enter-joint':
      return changer.enterJoint(valueOf(test, 'autoleave') === 'true', changes)
    case 'leave-joint':
      return changes.length > 0
        ? { ok: false, reason: 'this command takes no input' }
        : changer.leaveJoint()
    default:
      return { ok: false, reason: `unknown command: ${test.command}` }
  }
}

/** Parses `v1 l2 r3 u4`. */
export function parseChanges(input: string): ConfChangeSingle[] {
  return input
    .split(/\s+/)
    .filter((word) => word !== '')
    .map((word) => {
      if (word.length < 2) throw new CommandError(`unknown token ${word}`)
      const type = changeTypes.find((name) => CHANGE_LETTERS[name] === word[0])
      if (type === undefined) throw new CommandError(`unknown input: ${word}`)
      const peer = Number(word.slice(1))
      if (!Number.isSafeInteger(peer) || peer < 0)
        throw new CommandError(`strconv.ParseUint: parsing "${word.slice(1)}": invalid syntax`)
      return { type, peer }
    })
}

const changeTypes = ['addVoter', 'addLearner', 'remove', 'update'] as const
