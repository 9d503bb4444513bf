/**
 * Gives out the logs of this node's tasks to managers (`log-protocol.ts`). Who asks is proven by
 * the mesh; that it is a manager is what the replica here says, so a captured worker learns
 * nothing.
 */
import type { Agent } from '../agent/agent.ts'
import type { LogLine } from '../agent/task-log.ts'
import { SwarmError } from '../base/errors.ts'
import type { Duplex } from '../mesh/ports.ts'
import type { StoreView } from '../store/view.ts'
import { BatchWriter } from './batch-writer.ts'
import { decodeQuestion, encodeLine } from './log-protocol.ts'
import type { LogQuestion } from './log-protocol.ts'

/** Most logs given out at once; each holds three files open. More is RESOURCE_EXHAUSTED. */
export const SERVED_LOGS_MAX = 256

/** What reads the logs of this node. */
export type LocalLogs = Pick<Agent, 'readLogs'>

/**
 * Lines of a task of this node.
 * @yields them in the order of the log
 * @throws NOT_FOUND
 */
export async function* readLocalLog(
  agent: LocalLogs,
  question: LogQuestion,
  signal: AbortSignal,
): AsyncGenerator<LogLine> {
  const { taskId, stdout, stderr, follow, tail, since } = question
  const lines = agent.readLogs(taskId, {
    follow,
    signal,
    ...(tail === undefined ? {} : { tail }),
    ...(since === undefined ? {} : { since }),
  })
  for await (const line of lines) {
    if (line.stream === 'stdout' ? stdout : stderr) yield line
  }
}

/** Answers `agent.logs`. */
export class LogServer {
  readonly #store: StoreView
  readonly #agent: LocalLogs
  readonly #closing = new AbortController()
  #served = 0

  constructor(components: { readonly store: StoreView; readonly agent: LocalLogs }) {
    this.#store = components.store
    this.#agent = components.agent
  }

  /**
   * Serves one stream. @throws PERMISSION_DENIED, INVALID_ARGUMENT, NOT_FOUND, RESOURCE_EXHAUSTED
   */
  async serve(header: unknown, stream: Duplex): Promise<void> {
    if (this.#store.get('nodes', stream.nodeId)?.spec.Role !== 'manager') {
      throw new SwarmError('PERMISSION_DENIED', `logs: node ${stream.nodeId} is no manager`)
    }
    const question = decodeQuestion(header)
    if (this.#served >= SERVED_LOGS_MAX) {
      throw new SwarmError('RESOURCE_EXHAUSTED', `logs: ${SERVED_LOGS_MAX} are being read here`)
    }
    this.#served += 1
    const withdrawn = new AbortController()
    void abortAtEnd(stream, withdrawn)
    const signal = AbortSignal.any([withdrawn.signal, this.#closing.signal])
    const writer = new BatchWriter(stream)
    try {
      for await (const line of readLocalLog(this.#agent, question, signal)) {
        await writer.write(encodeLine(line))
      }
      await writer.flush()
      if (this.#closing.signal.aborted) throw this.#closing.signal.reason as Error
    } finally {
      this.#served -= 1
    }
  }

  /** Ends what is being given out. */
  close(): void {
    this.#closing.abort(new SwarmError('SHUTTING_DOWN', 'logs: the node stops'))
  }
}

/** The asker sends nothing: whatever ends its direction means that it has gone. Never rejects. */
async function abortAtEnd(stream: Duplex, withdrawn: AbortController): Promise<void> {
  try {
    const incoming = stream.source[Symbol.asyncIterator]()
    while ((await incoming.next()).done !== true) continue
  } catch {
    // Reset or lost: the same as an end.
  }
  withdrawn.abort(new SwarmError('ABORTED', 'logs: the reader has gone'))
}
