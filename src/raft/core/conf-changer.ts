/**
 * Computes the next membership from the present one and a list of changes. Pure: the tracker given
 * is never touched, and a change that would be unsafe yields a reason instead of a tracker.
 *
 * Invariants of every result: no voter is a learner; a member of `learnersNext` is an outgoing
 * voter and no learner; only a joint configuration has `learnersNext` or `autoLeave`; there is a
 * voter. Source: etcd-io/raft `confchange/confchange.go`, `confchange/restore.go`; Ongaro §4.3.
 */
import { assert } from '../../base/assert.ts'
import type { ConfChange, ConfChangeSingle, ConfState, Index, PeerId } from './entry.ts'
import { NO_PEER } from './entry.ts'
import type { Progress } from './progress.ts'
import { JointConfig, MajorityConfig } from './quorum.ts'
import { Tracker } from './tracker.ts'

/** A new tracker, or why there is none. */
export type ChangeResult =
  | { readonly ok: true; readonly tracker: Tracker }
  | { readonly ok: false; readonly reason: string }

/** A membership being edited. */
interface Draft {
  readonly incoming: Set<PeerId>
  readonly outgoing: Set<PeerId>
  readonly learners: Set<PeerId>
  readonly learnersNext: Set<PeerId>
  readonly progress: Map<PeerId, Progress>
  autoLeave: boolean
}

const refuse = (reason: string): ChangeResult => ({ ok: false, reason })

/** Changes to one membership. `lastIndex` is where new members are first probed. */
export class ConfChanger {
  readonly #tracker: Tracker
  readonly #lastIndex: Index

  constructor(tracker: Tracker, lastIndex: Index) {
    this.#tracker = tracker
    this.#lastIndex = lastIndex
  }

  /** Applies a change in the way that it asks for. */
  change(change: ConfChange): ChangeResult {
    if (leavesJoint(change)) return this.leaveJoint()
    if (change.transition === 'auto' && change.changes.length === 1)
      return this.simple(change.changes)
    return this.enterJoint(change.transition !== 'explicit', change.changes)
  }

  /** Enters the joint configuration of the present voters and the changed ones. */
  enterJoint(autoLeave: boolean, changes: readonly ConfChangeSingle[]): ChangeResult {
    const draft = this.#draft()
    if (draft.outgoing.size > 0) return refuse('config is already joint')
    if (draft.incoming.size === 0) return refuse("can't make a zero-voter config joint")
    for (const id of draft.incoming) draft.outgoing.add(id)
    if (!this.#apply(draft, changes)) return refuse('removed all voters')
    draft.autoLeave = autoLeave
    return this.#finish(draft)
  }

  /** Leaves the joint configuration for its incoming half. */
  leaveJoint(): ChangeResult {
    const draft = this.#draft()
    if (draft.outgoing.size === 0) return refuse("can't leave a non-joint config")
    for (const id of draft.learnersNext) {
      draft.learners.add(id)
      const progress = draft.progress.get(id)
      if (progress !== undefined) progress.isLearner = true
    }
    draft.learnersNext.clear()
    for (const id of draft.outgoing) {
      if (!draft.incoming.has(id) && !draft.learners.has(id)) draft.progress.delete(id)
    }
    draft.outgoing.clear()
    draft.autoLeave = false
    return this.#finish(draft)
  }

  /** Changes at most one voter, without a joint configuration. */
  simple(changes: readonly ConfChangeSingle[]): ChangeResult {
    const draft = this.#draft()
    if (draft.outgoing.size > 0) return refuse("can't apply simple config change in joint config")
    const before = new Set(draft.incoming)
    if (!this.#apply(draft, changes)) return refuse('removed all voters')
    if (before.symmetricDifference(draft.incoming).size > 1)
      return refuse('more than one voter changed without entering joint config')
    return this.#finish(draft)
  }

  #draft(): Draft {
    const { voters, learners, learnersNext, autoLeave } = this.#tracker.membership
    const progress = new Map<PeerId, Progress>()
    for (const [id, value] of this.#tracker.entries()) progress.set(id, value.clone())
    return {
      incoming: new Set(voters.incoming.ids),
      outgoing: new Set(voters.outgoing.ids),
      learners: new Set(learners),
      learnersNext: new Set(learnersNext),
      progress,
      autoLeave,
    }
  }

  /** Returns false when no voter is left. */
  #apply(draft: Draft, changes: readonly ConfChangeSingle[]): boolean {
    for (const { type: kind, peer } of changes) {
      if (peer === NO_PEER) continue
      switch (kind) {
        case 'addVoter':
          this.#makeVoter(draft, peer)
          break
        case 'addLearner':
          this.#makeLearner(draft, peer)
          break
        case 'remove':
          remove(draft, peer)
          break
        case 'update':
          break
        default:
          kind satisfies never
      }
    }
    return draft.incoming.size > 0
  }

  #makeVoter(draft: Draft, peer: PeerId): void {
    const progress = draft.progress.get(peer)
    if (progress === undefined) draft.progress.set(peer, this.#newProgress(false))
    else progress.isLearner = false
    draft.learners.delete(peer)
    draft.learnersNext.delete(peer)
    draft.incoming.add(peer)
  }

  #makeLearner(draft: Draft, peer: PeerId): void {
    const progress = draft.progress.get(peer)
    if (progress === undefined) {
      draft.progress.set(peer, this.#newProgress(true))
      draft.learners.add(peer)
      return
    }
    if (progress.isLearner) return
    remove(draft, peer)
    draft.progress.set(peer, progress)
    if (draft.outgoing.has(peer)) {
      draft.learnersNext.add(peer)
    } else {
      progress.isLearner = true
      draft.learners.add(peer)
    }
  }

  /** A new member counts as heard from, or a quorum check could strike before it had a chance. */
  #newProgress(isLearner: boolean): Progress {
    const progress = this.#tracker.newProgress(Math.max(this.#lastIndex, 1), isLearner)
    progress.recentActive = true
    return progress
  }

  #finish(draft: Draft): ChangeResult {
    assertSound(draft)
    const voters = new JointConfig(
      new MajorityConfig(draft.incoming),
      new MajorityConfig(draft.outgoing),
    )
    const { learners, learnersNext, autoLeave } = draft
    const membership = { voters, learners, learnersNext, autoLeave }
    return {
      ok: true,
      tracker: new Tracker(this.#tracker.limits, membership, draft.progress),
    }
  }
}

/** Whether `change` leaves a joint configuration. */
export function leavesJoint(change: ConfChange): boolean {
  return change.changes.length === 0
}

/** Makes a change of `type` to any peer. */
function as(type: ConfChangeSingle['type']): (peer: PeerId) => ConfChangeSingle {
  return (peer) => ({ type, peer })
}

/** A tracker for `conf`, reached from nothing by allowed changes alone. */
export function restoreTracker(empty: Tracker, conf: ConfState, lastIndex: Index): Tracker {
  const incoming = [
    ...conf.votersOutgoing.map(as('remove')),
    ...conf.voters.map(as('addVoter')),
    ...[...conf.learners, ...conf.learnersNext].map(as('addLearner')),
  ]
  const joint = conf.votersOutgoing.length > 0
  let tracker = empty
  for (const change of joint ? conf.votersOutgoing.map(as('addVoter')) : incoming) {
    tracker = expectOk(new ConfChanger(tracker, lastIndex).simple([change]))
  }
  if (!joint) return tracker
  return expectOk(new ConfChanger(tracker, lastIndex).enterJoint(conf.autoLeave, incoming))
}

function expectOk(result: ChangeResult): Tracker {
  assert(result.ok, `a stored configuration is invalid${result.ok ? '' : `: ${result.reason}`}`)
  return result.tracker
}

function remove(draft: Draft, peer: PeerId): void {
  if (!draft.progress.has(peer)) return
  draft.incoming.delete(peer)
  draft.learners.delete(peer)
  draft.learnersNext.delete(peer)
  if (!draft.outgoing.has(peer)) draft.progress.delete(peer)
}

function assertSound(draft: Draft): void {
  const { incoming, outgoing, learners, learnersNext, progress } = draft
  for (const id of [...incoming, ...outgoing, ...learners, ...learnersNext])
    assert(progress.has(id), `member ${id} has no progress`)
  for (const id of learnersNext) {
    assert(outgoing.has(id), `${id} is in learnersNext but not an outgoing voter`)
    assert(progress.get(id)?.isLearner === false, `${id} is in learnersNext but already a learner`)
  }
  for (const id of learners) {
    assert(!outgoing.has(id) && !incoming.has(id), `${id} is both voter and learner`)
    assert(progress.get(id)?.isLearner === true, `${id} is a learner but not marked so`)
  }
  if (outgoing.size === 0)
    assert(learnersNext.size === 0 && !draft.autoLeave, 'a plain configuration has joint leftovers')
}
