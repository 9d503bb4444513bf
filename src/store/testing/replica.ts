/** What tests of the store write and read: a store that is fed entry by entry, and its actions. */
import { setImmediate } from 'node:timers/promises'
import { type ExecutionContext } from 'ava'
import { encodeTransaction } from '../codec.ts'
import type { nodeDraft } from './fixtures.ts'
import { serviceDraft, serviceSpec, transactionOf } from './fixtures.ts'
import type { Task, TaskState, TaskStatus } from '../objects.ts'
import { StoreStateMachine } from '../state-machine.ts'
import type { Store } from '../store.ts'
import type { Action, Draft, TransactionResult } from '../transaction.ts'

/** The time of every action. */
export const AT = '2026-01-01T00:00:00.000Z'

/** A store that is fed through its state machine, entry by entry. */
export class Replica {
  readonly machine = new StoreStateMachine()
  #next = 1

  get store(): Store {
    return this.machine.store
  }

  apply(actions: readonly Action[], requestId = `request-${this.#next}`): TransactionResult {
    return this.feed(encodeTransaction(transactionOf(requestId, actions)))
  }

  feed(data: Uint8Array): TransactionResult {
    const index = this.#next
    this.#next += 1
    const result = this.machine.apply([{ index, term: 1, data }])[0]
    if (result === undefined) throw new Error('no result')
    return result
  }
}

/** Actions that create an object. */
export const create = {
  node: (draft: ReturnType<typeof nodeDraft>): Action => ({
    type: 'create',
    table: 'nodes',
    object: draft,
  }),
  service: (id: string, name: string): Action => ({
    type: 'create',
    table: 'services',
    object: serviceDraft(id, serviceSpec(name)),
  }),
  task: (draft: Draft<Task>): Action => ({ type: 'create', table: 'tasks', object: draft }),
}

/** A task's status at the time of all tests. */
export function status(state: TaskState, message = ''): TaskStatus {
  return { state, timestamp: AT, message }
}

/** A node's report on its task. */
export function observe(id: string, nodeId: string, reported: TaskStatus): Action {
  return { type: 'observeTask', id, nodeId, status: reported }
}

/** A snapshot, whole. */
export async function bytesOf(machine: StoreStateMachine): Promise<Buffer> {
  return collect(machine.snapshot())
}

/** All chunks in one. */
export async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of source) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/**
 * Cuts bytes into chunks that come one by one.
 *
 * @yields chunks of `size` bytes
 */
export async function* chunked(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += size) {
    await setImmediate()
    yield bytes.subarray(start, start + size)
  }
}

/** Asserts that an entry was refused with this code. */
export function refusal(
  t: ExecutionContext,
  result: ReturnType<Replica['apply']>,
  code: string,
): void {
  t.is(result.ok ? 'ok' : result.code, code)
}
