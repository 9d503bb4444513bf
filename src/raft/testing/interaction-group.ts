/**
 * The members of an interaction script and the network between them, which keeps every message
 * until it is told to deliver it. Source: etcd-io/raft `rafttest/`, in its observable behaviour.
 */
import type { Snapshot } from '../core/entry.ts'
import type { Message } from '../core/message.ts'
import { describeMessage, describeReady, messageName } from './interaction-describe.ts'
import { DROPPED_TEXT, logLine } from './interaction-log.ts'
import { ScriptNode, type NodeOptions, type Write } from './interaction-node.ts'
import { Output } from './interaction-output.ts'

/** Who gets, or loses, messages. */
export interface Recipient {
  readonly id: number
  readonly drop: boolean
}

const STEP_ERRORS = {
  dropped: DROPPED_TEXT,
  peerNotFound: 'raft: cannot step as peer not found',
  localMessage: 'raft: cannot step raft local message',
} as const

/** Members, messages, output. */
export class InteractionGroup {
  readonly output = new Output()
  readonly nodes: ScriptNode[] = []
  #messages: Message[] = []

  /** Adds the member with the next number, in the state `start`. */
  addNode(options: NodeOptions, start: Snapshot): void {
    const id = this.nodes.length + 1
    const onEvent: NodeOptions['onEvent'] = (event) => {
      const line = logLine(id, event)
      if (line !== undefined) this.output.log(line)
    }
    this.nodes.push(new ScriptNode(id, { ...options, onEvent }, start))
  }

  /** Puts a message on the network. */
  send(message: Message): void {
    this.#messages.push(message)
  }

  /** Takes a `Ready` and does what it asks for. */
  processReady(node: ScriptNode): void {
    const ready = node.core.ready()
    this.output.write(describeReady(ready))
    const sync = node.options.asyncStorageWrites !== true
    if (sync) {
      node.append({ hard: ready.hard, entries: ready.entries, snapshot: ready.snapshot })
      node.apply(ready.committed)
    }
    for (const message of ready.messages) {
      if (message.type === 'storageAppend') node.appendWork.push(message)
      else if (message.type === 'storageApply') node.applyWork.push(message)
      else this.send(message)
    }
    if (sync) node.core.advance(ready)
  }

  /** Does one write of the append thread. */
  processAppendThread(node: ScriptNode): void {
    const work = node.appendWork.shift()
    if (work === undefined) {
      this.output.write('no append work to perform')
      return
    }
    const { hardState, entries, snapshot } = work
    const write: Write = { hard: hardState, entries, snapshot }
    this.#processWork(work, () => {
      node.append(write)
    })
  }

  /** Does one application of the apply thread. */
  processApplyThread(node: ScriptNode): void {
    const work = node.applyWork.shift()
    if (work === undefined) {
      this.output.write('no apply work to perform')
      return
    }
    this.#processWork(work, () => {
      node.apply(work.entries)
    })
  }

  /** Delivers, or drops, what is on its way to one member; returns how much that was. */
  deliver(recipient: Recipient, type?: string): number {
    const messages = this.#take(recipient, type)
    for (const message of messages) {
      this.output.line(`${recipient.drop ? 'dropped: ' : ''}${describeMessage(message)}`)
      if (recipient.drop) continue
      const result = this.nodes[message.to - 1]?.core.step(message) ?? 'ok'
      if (result !== 'ok' && result !== 'refused') this.output.line(STEP_ERRORS[result])
    }
    return messages.length
  }

  /** Lets the members, or all if none is given, work until nothing is left to do. */
  stabilize(chosen: readonly ScriptNode[]): void {
    const nodes = chosen.length > 0 ? chosen : this.nodes
    while (this.#stabilizeOnce(nodes));
  }

  #stabilizeOnce(nodes: readonly ScriptNode[]): boolean {
    let busy = false
    const section = (title: string, work: () => void): void => {
      busy = true
      this.output.line(title)
      this.output.indented(work)
    }
    for (const node of nodes) {
      if (node.core.hasReady())
        section(`> ${node.id} handling Ready`, () => {
          this.processReady(node)
        })
    }
    for (const { id } of nodes) {
      if (this.#messages.some((message) => message.to === id))
        section(`> ${id} receiving messages`, () => {
          this.deliver({ id, drop: false })
        })
    }
    for (const node of nodes) {
      if (node.appendWork.length > 0)
        section(`> ${node.id} processing append thread`, () => {
          while (node.appendWork.length > 0) this.processAppendThread(node)
        })
    }
    for (const node of nodes) {
      if (node.applyWork.length > 0)
        section(`> ${node.id} processing apply thread`, () => {
          while (node.applyWork.length > 0) this.processApplyThread(node)
        })
    }
    return busy
  }

  #processWork(
    work: Extract<Message, { readonly responses: readonly Message[] }>,
    perform: () => void,
  ): void {
    this.output.line('Processing:')
    this.output.line(describeMessage({ ...work, responses: [] }))
    perform()
    this.output.line('Responses:')
    for (const response of work.responses) {
      this.output.line(describeMessage(response))
      this.send(response)
    }
  }

  /** Messages of a member to itself, and of its threads, cannot be lost. */
  #take({ id, drop }: Recipient, type: string | undefined): Message[] {
    const wanted = (message: Message): boolean =>
      message.to === id &&
      !(drop && (message.from === message.to || message.from < 0)) &&
      (type === undefined || messageName(message.type) === type)
    const taken = this.#messages.filter(wanted)
    this.#messages = this.#messages.filter((message) => !wanted(message))
    return taken
  }
}
