/**
 * Runs the commands of interaction scripts: a group of members, a network that delivers when told
 * to, and everything that happens printed. Source: reference/raft.md §3.3; etcd-io/raft
 * `rafttest/`, in its observable behaviour.
 */
import { assert, at } from '../../base/assert.ts'
import { encodeConfChange } from '../core/conf-change-codec.ts'
import type { ConfChange, PeerId, Snapshot } from '../core/entry.ts'
import type { SnapshotRequest } from '../core/message.ts'
import type { StepResult } from '../core/step-result.ts'
import { parseChanges } from './confchange-script.ts'
import { describeEntry, describeProgressMap, describeRole } from './describe.ts'
import { describeMessage } from './interaction-describe.ts'
import { InteractionGroup } from './interaction-group.ts'
import { DROPPED_TEXT, LEVELS } from './interaction-log.ts'
import type { NodeOptions, ScriptNode } from './interaction-node.ts'
import { EMPTY_SNAPSHOT } from './memory-log.ts'
import { argument, CommandError, parseDirective, valueOf, type ScriptCase } from './script.ts'

type Command = (script: InteractionScript, test: ScriptCase) => void

/** One script's group. */
export class InteractionScript {
  readonly group = new InteractionGroup()

  /**
   * The output of one case. Every command but a proposed change may be followed by others, one a
   * line of its input; the mistake of a later one does not end the case.
   */
  run(test: ScriptCase): string {
    const { output } = this.group
    const later =
      test.command === 'propose-conf-change' ? [] : test.input.split('\n').filter(Boolean)
    let text = ''
    for (const [position, each] of [test, ...later.map(parseDirective)].entries()) {
      const failure = this.#runOne({ ...test, ...each })
      text += output.take() + failure
      if (failure !== '' && (position === 0 || output.isSilent)) break
    }
    if (text === '') return 'ok\n'
    return text.endsWith('\n') ? text : `${text}\n`
  }

  /** Gives what went wrong. */
  #runOne(test: ScriptCase): string {
    const command = COMMANDS[test.command]
    if (command === undefined) return 'unknown command'
    try {
      command(this, test)
      return ''
    } catch (error) {
      if (!(error instanceof CommandError)) throw error
      return error.message
    }
  }
}

const COMMANDS: Readonly<Record<string, Command>> = {
  // A place for a debugger to stop at.
  _breakpoint: () => undefined,
  'add-nodes': addNodes,
  campaign: ({ group }, test) => {
    firstNode(group, test).core.campaign()
  },
  compact: ({ group }, test) => {
    const node = firstNode(group, test)
    const index = Number(test.args[1]?.key)
    if (index < node.log.firstIndex())
      throw new CommandError('requested index is unavailable due to compaction')
    node.log.compact(index)
    printLog(group, node)
  },
  'deliver-msgs': deliver,
  'forget-leader': ({ group }, test) => {
    firstNode(group, test).core.forgetLeader()
  },
  'log-level': ({ group }, test) => {
    setLevel(group, test.args[0]?.key)
  },
  'process-append-thread': ({ group }, test) => {
    eachNode(group, test, (node, alone) => {
      headed(group, alone, `> ${node.id} processing append thread`, () => {
        group.processAppendThread(node)
      })
    })
  },
  'process-apply-thread': ({ group }, test) => {
    eachNode(group, test, (node, alone) => {
      headed(group, alone, `> ${node.id} processing apply thread`, () => {
        group.processApplyThread(node)
      })
    })
  },
  'process-ready': ({ group }, test) => {
    eachNode(group, test, (node, alone) => {
      headed(group, alone, `> ${node.id} handling Ready`, () => {
        group.processReady(node)
      })
    })
  },
  propose: ({ group }, test) => {
    const data = new TextEncoder().encode(test.args[1]?.key ?? '')
    expectTaken(firstNode(group, test).core.propose([{ type: 'normal', data }]))
  },
  'propose-conf-change': proposeConfChange,
  'raft-log': ({ group }, test) => {
    printLog(group, firstNode(group, test))
  },
  'raft-state': ({ group }) => {
    printState(group)
  },
  'report-unreachable': ({ group }, test) => {
    const [reporter, peer] = nodesOf(group, test)
    if (reporter !== undefined && peer !== undefined) reporter.core.reportUnreachable(peer.id)
  },
  'send-snapshot': sendSnapshot,
  'set-randomized-election-timeout': ({ group }, test) => {
    firstNode(group, test).core.setElectionTimeout(Number(valueOf(test, 'timeout')))
  },
  stabilize: ({ group }, test) => {
    const { level } = group.output
    const during = valueOf(test, 'log-level')
    if (during !== undefined) setLevel(group, during)
    group.stabilize(nodesOf(group, test))
    group.output.level = level
  },
  status: ({ group }, test) => {
    group.output.write(describeProgressMap(firstNode(group, test).core.progress()))
  },
  'tick-election': ({ group }, test) => {
    const node = firstNode(group, test)
    for (let i = 0; i < node.options.electionTicks; i += 1) node.core.tick()
  },
  'tick-heartbeat': ({ group }, test) => {
    const node = firstNode(group, test)
    for (let i = 0; i < node.options.heartbeatTicks; i += 1) node.core.tick()
  },
  'transfer-leadership': ({ group }, test) => {
    const from = Number(valueOf(test, 'from'))
    at(group.nodes, from - 1).core.transferLeader(Number(valueOf(test, 'to')))
  },
}

/** Members named by bare arguments, in their order. */
function nodesOf(group: InteractionGroup, test: ScriptCase): ScriptNode[] {
  return test.args
    .filter(({ values }) => values.length === 0)
    .map(({ key }) => at(group.nodes, Number(key) - 1))
}

function firstNode(group: InteractionGroup, test: ScriptCase): ScriptNode {
  return at(group.nodes, Number(test.args[0]?.key) - 1)
}

function eachNode(
  group: InteractionGroup,
  test: ScriptCase,
  work: (node: ScriptNode, alone: boolean) => void,
): void {
  const nodes = nodesOf(group, test)
  for (const node of nodes) work(node, nodes.length === 1)
}

/** A single member's work is printed as it is, one of several under a headline. */
function headed(group: InteractionGroup, alone: boolean, title: string, work: () => void): void {
  if (alone) {
    work()
    return
  }
  group.output.line(title)
  group.output.indented(work)
}

function setLevel(group: InteractionGroup, name: string | undefined): void {
  const level = LEVELS.find((candidate) => candidate === name?.toLowerCase())
  if (level === undefined)
    throw new CommandError(
      `log levels must be either of [${LEVELS.map((each) => each.toUpperCase()).join(' ')}]`,
    )
  group.output.level = level
}

function ids(test: ScriptCase, key: string): PeerId[] {
  return (argument(test, key) ?? []).map(Number)
}

/** A flag in any of Go's spellings; `false` if it is not given. */
function flag(test: ScriptCase, key: string): boolean {
  const value = valueOf(test, key)
  if (value === undefined || FALSE_WORDS.includes(value)) return false
  if (TRUE_WORDS.includes(value)) return true
  throw new CommandError(`strconv.ParseBool: parsing "${value}": invalid syntax`)
}

const TRUE_WORDS: readonly string[] = ['1', 't', 'T', 'TRUE', 'true', 'True']
const FALSE_WORDS: readonly string[] = ['0', 'f', 'F', 'FALSE', 'false', 'False']

function addNodes({ group }: InteractionScript, test: ScriptCase): void {
  const count = Number(test.args[0]?.key)
  for (let i = 0; i < count; i += 1) group.addNode(nodeOptions(test), startOf(test))
}

function startOf(test: ScriptCase): Snapshot {
  const given = ['voters', 'learners', 'index', 'content'].some(
    (key) => argument(test, key) !== undefined,
  )
  if (!given) return EMPTY_SNAPSHOT
  const index = Number(valueOf(test, 'index') ?? 0)
  if (index <= 1) throw new CommandError('index must be specified as > 1 due to bootstrap')
  const conf = {
    ...EMPTY_SNAPSHOT.metadata.conf,
    voters: ids(test, 'voters'),
    learners: ids(test, 'learners'),
  }
  const data = new TextEncoder().encode(valueOf(test, 'content') ?? '')
  return { metadata: { index, term: 1, conf }, data }
}

function nodeOptions(test: ScriptCase): NodeOptions {
  const inflight = valueOf(test, 'inflight')
  const maxCommitted = valueOf(test, 'max-committed-size-per-ready')
  return {
    asyncStorageWrites: flag(test, 'async-storage-writes'),
    preVote: flag(test, 'prevote'),
    checkQuorum: flag(test, 'checkquorum'),
    disableConfChangeValidation: flag(test, 'disable-conf-change-validation'),
    stepDownOnRemoval: flag(test, 'step-down-on-removal'),
    readOnly: readOnlyMode(valueOf(test, 'read-only') ?? 'safe'),
    ...(inflight === undefined ? {} : { maxInflightMessages: Number(inflight) }),
    ...(maxCommitted === undefined ? {} : { maxCommittedBytesPerReady: Number(maxCommitted) }),
  }
}

function readOnlyMode(name: string): 'safe' | 'lease' {
  if (name === 'safe') return 'safe'
  if (name === 'lease-based') return 'lease'
  throw new CommandError(`invalid read-only option "${name}"`)
}

function deliver({ group }: InteractionScript, test: ScriptCase): void {
  const type = valueOf(test, 'type')
  const recipients = test.args.flatMap(({ key, values }) => {
    if (values.length === 0) return [{ id: Number(key), drop: false }]
    return key === 'drop' ? values.map((id) => ({ id: Number(id), drop: true })) : []
  })
  let count = 0
  for (const recipient of recipients)
    count += group.deliver(recipient, ...(type === undefined ? [] : [type]))
  if (count === 0) group.output.line('no messages')
}

function expectTaken(result: StepResult): void {
  if (result === 'dropped') throw new CommandError(DROPPED_TEXT)
}

function proposeConfChange({ group }: InteractionScript, test: ScriptCase): void {
  const { core } = firstNode(group, test)
  const unknown = test.args.find(
    ({ key, values }) => values.length > 0 && key !== 'v1' && key !== 'transition',
  )
  if (unknown !== undefined) throw new CommandError(`unknown command ${unknown.key}`)
  const named = valueOf(test, 'transition') ?? 'auto'
  const transition = TRANSITIONS[named]
  if (transition === undefined) throw new CommandError(`unknown transition ${named}`)
  const changes = parseChanges(test.input)
  const change = { transition, changes }
  if (!flag(test, 'v1')) {
    expectTaken(core.proposeConfChange(change))
    return
  }
  if (changes.length > 1 || transition !== 'auto')
    throw new CommandError('v1 conf change can only have one operation and no transition')
  expectTaken(core.propose([{ type: 'confChange', data: encodeConfChange(change) }]))
}

const TRANSITIONS: Readonly<Record<string, ConfChange['transition']>> = {
  auto: 'auto',
  implicit: 'implicit',
  explicit: 'explicit',
}

function sendSnapshot({ group }: InteractionScript, test: ScriptCase): void {
  const [from, to] = nodesOf(group, test)
  assert(from !== undefined && to !== undefined, 'send-snapshot names two members')
  const message: SnapshotRequest = {
    type: 'snap',
    from: from.id,
    to: to.id,
    term: from.core.status().hard.term,
    snapshot: from.newestSnapshot,
  }
  group.send(message)
  group.output.write(describeMessage(message))
}

function printLog(group: InteractionGroup, { log }: ScriptNode): void {
  const first = log.firstIndex()
  const last = log.lastIndex()
  if (last < first) {
    group.output.write(`log is empty: first index=${first}, last index=${last}`)
    return
  }
  const entries = log.entries(first, last + 1, Number.MAX_SAFE_INTEGER)
  assert(entries !== 'compacted', 'the whole log is there')
  for (const entry of entries) group.output.line(describeEntry(entry))
}

function printState(group: InteractionGroup): void {
  for (const { core } of group.nodes) {
    const { id, role, lead, hard, conf } = core.status()
    const isVoter = conf.voters.includes(id) || conf.votersOutgoing.includes(id)
    const voter = isVoter ? '(Voter)' : '(Non-Voter)'
    group.output.line(`${id}: ${describeRole(role)} ${voter} Term:${hard.term} Lead:${lead}`)
  }
}
