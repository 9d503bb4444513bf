/**
 * Core events as the log lines that etcd's core writes. Source: the expected outputs of
 * etcd-io/raft's interaction scripts; etcd-io/raft `raft.go`, `log.go`, `log_unstable.go` for lines
 * that no script has.
 */
import type { CoreEvent } from '../core/core-event.ts'
import type { ConfChange, ConfChangeSingle, ConfState, EntryId, PeerId } from '../core/entry.ts'
import { describeConf, describeProgress, describeRole } from './describe.ts'
import { hex, messageName } from './interaction-describe.ts'

/** Levels of log lines, ascending; `none` silences everything. */
export const LEVELS = ['debug', 'info', 'warn', 'error', 'fatal', 'none'] as const

export type Level = (typeof LEVELS)[number]

/** The text of a proposal that came to nothing. */
export const DROPPED_TEXT = 'raft proposal dropped'

/** A level and a text. */
export type LogLine = readonly [Level, string]

type EventOf<T, E = CoreEvent> = E extends { readonly type: infer U }
  ? T extends U
    ? E
    : never
  : never

type Wording<E> = (id: string, event: E) => LogLine | undefined

type Wordings = { readonly [T in CoreEvent['type']]: Wording<EventOf<T>> }

/** The line of an event of member `self`, or none where etcd writes none. */
export function logLine(self: PeerId, event: CoreEvent): LogLine | undefined {
  // The table maps each type to a function of events of that type, which the compiler cannot
  // follow.
  const wording = WORDINGS[event.type] as Wording<CoreEvent>
  return wording(hex(self), event)
}

const ROLE_NAMES = {
  follower: 'follower',
  preCandidate: 'pre-candidate',
  candidate: 'candidate',
  leader: 'leader',
} as const

const place = ({ term, index }: EntryId): string => `[logterm: ${term}, index: ${index}]`
const snapshotAt = ({ term, index }: EntryId): string => `[index: ${index}, term: ${term}]`

const electionWordings = {
  roleChanged: (id, { role, term }) => ['info', `${id} became ${ROLE_NAMES[role]} at term ${term}`],
  electionStarted: (id, { term }) => ['info', `${id} is starting a new election at term ${term}`],
  campaignRefused: (id, { reason, term }) => refusedCampaign(id, reason, term),
  voteRequested: (id, { kind, to, last, term }) => [
    'info',
    `${id} ${place(last)} sent ${messageName(kind)} request to ${hex(to)} at term ${term}`,
  ],
  voteAnswered: (id, event) => answeredVote(id, event),
  voteReceived: (id, { kind, from, granted, term }) => [
    'info',
    `${id} received ${messageName(kind)}${granted ? '' : ' rejection'} from ${hex(from)} at term ${term}`,
  ],
  votesCounted: (id, { kind, granted, rejected }) => [
    'info',
    `${id} has received ${granted} ${messageName(kind)} votes and ${rejected} vote rejections`,
  ],
  quorumLost: (id) => ['warn', `${id} stepped down to follower since quorum is not active`],
  leaderForgotten: (id, { leader, term }) => [
    'info',
    `${id} forgetting leader ${hex(leader)} at term ${term}`,
  ],
  forgetLeaderRefused: () => ['error', 'ignoring MsgForgetLeader due to ReadOnlyLeaseBased'],
} satisfies Partial<Wordings>

const termWordings = {
  higherTerm: (id, { message, from, messageTerm, term }) => [
    'info',
    `${id} [term: ${term}] received a ${messageName(message)} message with higher term from ` +
      `${hex(from)} [term: ${messageTerm}]`,
  ],
  lowerTermIgnored: (id, { message, from, messageTerm, term }) => [
    'info',
    `${id} [term: ${term}] ignored a ${messageName(message)} message with lower term from ` +
      `${hex(from)} [term: ${messageTerm}]`,
  ],
  staleAppendIgnored: (id, { message, messageTerm, term }) => [
    'info',
    `${id} [term: ${term}] ignored entry appends from a ${messageName(message)} message with ` +
      `lower term [term: ${messageTerm}]`,
  ],
  noLeader: (id, { message, term }) => [
    'info',
    `${id} no leader at term ${term}; dropping ${DROPPED[message]}`,
  ],
} satisfies Partial<Wordings>

const DROPPED = {
  prop: 'proposal',
  transferLeader: 'leader transfer msg',
  readIndex: 'index reading msg',
} as const

const proposalWordings = {
  proposalDropped: (id, { reason, peer, term }) => droppedProposal(id, { reason, peer, term }),
  confChangeIgnored: (id, { entryType, change, conf, reason }) => [
    'info',
    `${id} ignoring conf change ${WORD_CHANGE[entryType](change)} at config ${describeConf(conf)}: ${reason}`,
  ],
} satisfies Partial<Wordings>

const replicationWordings = {
  appendRefused: (id, { from, at, ownTerm }) => [
    'debug',
    `${id} ${place({ term: ownTerm, index: at.index })} rejected MsgApp ${place(at)} from ${hex(from)}`,
  ],
  appendRefusal: (id, { from, index, hint }) => [
    'debug',
    `${id} received MsgAppResp(rejected, hint: (index ${hint.index}, term ${hint.term})) from ` +
      `${hex(from)} for index ${index}`,
  ],
  progressDecreased: (id, { peer, progress }) => [
    'debug',
    `${id} decreased progress of ${hex(peer)} to [${describeProgress(progress)}]`,
  ],
  replicationPaused: (id, { peer, progress }) => [
    'debug',
    `${id} paused sending replication messages to ${hex(peer)} [${describeProgress(progress)}]`,
  ],
  snapshotAcknowledged: (id, { peer, progress }) => [
    'debug',
    `${id} recovered from needing snapshot, resumed sending replication messages to ` +
      `${hex(peer)} [${describeProgress(progress)}]`,
  ],
  peerUnreachable: (id, { peer, progress }) => [
    'debug',
    `${id} failed to send message to ${hex(peer)} because it is unreachable ` +
      `[${describeProgress(progress)}]`,
  ],
  noProgress: (id, { peer }) => ['debug', `${id} no progress available for ${hex(peer)}`],
  snapshotReported: (id, { peer, ok, progress }) => [
    'debug',
    `${id} snapshot ${ok ? 'succeeded' : 'failed'}, resumed sending replication messages to ` +
      `${hex(peer)} [${describeProgress(progress)}]`,
  ],
  snapshotSent: (id, { peer, snapshot, firstIndex, commit, progress }) => [
    'debug',
    `${id} [firstindex: ${firstIndex}, commit: ${commit}] sent snapshot${snapshotAt(snapshot)} to ` +
      `${hex(peer)} [${describeProgress(progress)}]`,
  ],
  snapshotNotSent: (id, { peer, reason }) => [
    'debug',
    reason === 'inactive'
      ? `ignore sending snapshot to ${hex(peer)} since it is not recently active`
      : `${id} failed to send snapshot to ${hex(peer)} because snapshot is temporarily unavailable`,
  ],
  entriesUnavailable: () => undefined,
} satisfies Partial<Wordings>

const logWordings = {
  conflictFound: (_id, { index, existingTerm, conflictingTerm }) => [
    'info',
    `found conflict at index ${index} [existing term: ${existingTerm}, ` +
      `conflicting term: ${conflictingTerm}]`,
  ],
  unstableReplaced: (_id, { from }) => ['info', `replace the unstable entries from index ${from}`],
  unstableTruncated: (_id, { from }) => [
    'info',
    `truncate the unstable entries before index ${from}`,
  ],
  stableIgnored: (_id, { reason, id, entryTerm }) => ignoredStable(reason, id, entryTerm),
  logRestoring: (_id, event) => [
    'info',
    `log [committed=${event.committed}, applied=${event.applied}, applying=${event.applying}, ` +
      `unstable.offset=${event.offset}, unstable.offsetInProgress=${event.offsetInProgress}, ` +
      `len(unstable.Entries)=${event.unstableLength}] starts to restore snapshot ` +
      snapshotAt(event.snapshot),
  ],
  snapshotRestored: (id, { commit, last, snapshot }) => [
    'info',
    `${id} [commit: ${commit}, lastindex: ${last.index}, lastterm: ${last.term}] ` +
      `restored snapshot ${snapshotAt(snapshot)}`,
  ],
  snapshotFastForwarded: (id, { commit, last, snapshot }) => [
    'info',
    `${id} [commit: ${commit}, lastindex: ${last.index}, lastterm: ${last.term}] ` +
      `fast-forwarded commit to snapshot ${snapshotAt(snapshot)}`,
  ],
  snapshotInstalled: (id, { commit, snapshot }) => [
    'info',
    `${id} [commit: ${commit}] restored snapshot ${snapshotAt(snapshot)}`,
  ],
  snapshotIgnored: (id, { commit, snapshot }) => [
    'info',
    `${id} [commit: ${commit}] ignored snapshot ${snapshotAt(snapshot)}`,
  ],
  snapshotRefused: (id, { reason, conf }) => [
    'warn',
    reason === 'role'
      ? `${id} attempted to restore snapshot as leader; should never happen`
      : `${id} attempted to restore snapshot but it is not in the ConfState ` +
        `${wordConfState(conf)}; should never happen`,
  ],
} satisfies Partial<Wordings>

const membershipWordings = {
  configurationChanged: (id, { conf }) => [
    'info',
    `${id} switched to configuration ${describeConf(conf)}`,
  ],
  autoLeave: (_id, { conf, proposed }) => [
    proposed ? 'info' : 'debug',
    `${proposed ? 'initiating' : 'not initiating'} automatic transition out of joint ` +
      `configuration ${describeConf(conf)}${proposed ? '' : `: ${DROPPED_TEXT}`}`,
  ],
  transfer: (id, { phase, peer, term }) => wordTransfer(id, { phase, peer, term }),
  timeoutNow: (id, { from, term, role, obeyed }) => [
    obeyed ? 'info' : 'debug',
    obeyed
      ? `${id} [term ${term}] received MsgTimeoutNow from ${hex(from)} and starts an election ` +
        'to get leadership.'
      : `${id} [term ${term} state ${describeRole(role)}] ignored MsgTimeoutNow from ${hex(from)}`,
  ],
  restored: (id, { voters, term, commit, applied, last }) => [
    'info',
    `newRaft ${id} [peers: [${voters.map(hex).join(',')}], term: ${term}, commit: ${commit}, ` +
      `applied: ${applied}, lastindex: ${last.index}, lastterm: ${last.term}]`,
  ],
} satisfies Partial<Wordings>

const WORDINGS: Wordings = {
  ...electionWordings,
  ...termWordings,
  ...proposalWordings,
  ...replicationWordings,
  ...logWordings,
  ...membershipWordings,
}

function refusedCampaign(
  id: string,
  reason: EventOf<'campaignRefused'>['reason'],
  term: number,
): LogLine | undefined {
  switch (reason) {
    case 'leader':
      return ['debug', `${id} ignoring MsgHup because already leader`]
    case 'unpromotable':
      return ['warn', `${id} is unpromotable and can not campaign`]
    case 'unappliedConfChange':
      return [
        'warn',
        `${id} cannot campaign at term ${term} since there are still pending configuration ` +
          'changes to apply',
      ]
    case 'lease':
      return undefined
    default:
      return reason satisfies never
  }
}

function answeredVote(id: string, event: EventOf<'voteAnswered'>): LogLine {
  const { decision, kind, candidate, candidateLast, last, vote, term, leaseTicks } = event
  const verb = { granted: 'cast', refused: 'rejected', ignored: 'ignored' }[decision]
  const own = `[logterm: ${last.term}, index: ${last.index}, vote: ${hex(vote)}]`
  const direction = decision === 'granted' ? 'for' : 'from'
  const whom = `${direction} ${hex(candidate)} ${place(candidateLast)}`
  const text = `${id} ${own} ${verb} ${messageName(kind)} ${whom} at term ${term}`
  const lease = `: lease is not expired (remaining ticks: ${leaseTicks})`
  return ['info', decision === 'ignored' ? text + lease : text]
}

function droppedProposal(
  id: string,
  { reason, peer, term }: Pick<EventOf<'proposalDropped'>, 'reason' | 'peer' | 'term'>,
): LogLine | undefined {
  switch (reason) {
    case 'forwardingDisabled':
      return [
        'info',
        `${id} not forwarding to leader ${hex(peer)} at term ${term}; dropping proposal`,
      ]
    case 'transfer':
      return [
        'debug',
        `${id} [term ${term}] transfer leadership to ${hex(peer)} is in progress; dropping proposal`,
      ]
    case 'uncommittedBytes':
      return [
        'warn',
        `${id} appending new entries to log would exceed uncommitted entry size limit; ` +
          'dropping proposal',
      ]
    case 'removed':
      return undefined
    default:
      return reason satisfies never
  }
}

function ignoredStable(
  reason: EventOf<'stableIgnored'>['reason'],
  { term, index }: EntryId,
  entryTerm: number,
): LogLine {
  switch (reason) {
    case 'missing':
      return ['info', `entry at index ${index} missing from unstable log; ignoring`]
    case 'snapshot':
      return ['info', `entry at index ${index} matched unstable snapshot; ignoring`]
    case 'mismatch':
      return [
        'info',
        `entry at (index,term)=(${index},${term}) mismatched with entry at ` +
          `(${index},${entryTerm}) in unstable log; ignoring`,
      ]
    default:
      return reason satisfies never
  }
}

function wordTransfer(
  id: string,
  { phase, peer, term }: Pick<EventOf<'transfer'>, 'phase' | 'peer' | 'term'>,
): LogLine {
  const to = hex(peer)
  const head = `${id} [term ${term}]`
  switch (phase) {
    case 'started':
      return ['info', `${head} starts to transfer leadership to ${to}`]
    case 'repeated':
      return [
        'info',
        `${head} transfer leadership to ${to} is in progress, ignores request to same node ${to}`,
      ]
    case 'replaced':
      return ['info', `${head} abort previous transferring leadership to ${to}`]
    case 'toSelf':
      return ['debug', `${id} is already leader. Ignored transferring leadership to self`]
    case 'toLearner':
      return ['debug', `${id} is learner. Ignored transferring leadership`]
    case 'upToDate':
      return [
        'info',
        `${id} sends MsgTimeoutNow to ${to} immediately as ${to} already has up-to-date log`,
      ]
    case 'caughtUp':
      return ['info', `${id} sent MsgTimeoutNow to ${to} after received MsgAppResp`]
    default:
      return phase satisfies never
  }
}

const CHANGE_NAMES: Readonly<Record<ConfChangeSingle['type'], string>> = {
  addVoter: 'ConfChangeAddNode',
  addLearner: 'ConfChangeAddLearnerNode',
  remove: 'ConfChangeRemoveNode',
  update: 'ConfChangeUpdateNode',
}

const TRANSITION_NAMES: Readonly<Record<ConfChange['transition'], string>> = {
  auto: 'ConfChangeTransitionAuto',
  implicit: 'ConfChangeTransitionJointImplicit',
  explicit: 'ConfChangeTransitionJointExplicit',
}

const wordSingle = ({ type, peer }: ConfChangeSingle): string =>
  `type:${CHANGE_NAMES[type]} node_id:${peer}`

/** Changes of the first kind are one change and nothing around it. */
const WORD_CHANGE = {
  confChange: ({ changes }: ConfChange): string => changes.map(wordSingle).join(' '),
  confChangeV2: ({ transition, changes }: ConfChange): string => {
    const words = changes.map((change) => `changes:{${wordSingle(change)}}`)
    return [`transition:${TRANSITION_NAMES[transition]}`, ...words].join(' ')
  },
} as const

const field = (name: string, ids: readonly PeerId[]): string[] => ids.map((id) => `${name}:${id}`)

function wordConfState(conf: ConfState): string {
  return [
    ...field('voters', conf.voters),
    ...field('learners', conf.learners),
    ...field('voters_outgoing', conf.votersOutgoing),
    ...field('learners_next', conf.learnersNext),
    `auto_leave:${conf.autoLeave}`,
  ].join(' ')
}
