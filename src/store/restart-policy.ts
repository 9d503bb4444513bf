/**
 * The restart policy as pure functions, shared by the node that holds a task (which restarts it at
 * once, without the leader) and the leader (which replaces tasks that their node cannot restart).
 * Both derive the successor's id from the predecessor's, so deciding apart they mean the same task.
 * Source: DESIGN.md decision 8; swarmkit `manager/orchestrator/restart/restart.go` for the
 * conditions.
 */
import { createHash } from 'node:crypto'
import { IDENTIFIER_BYTES, IDENTIFIER_DIGITS, base36 } from '../base/identifiers.ts'
import type { Task } from './objects.ts'
import type { RestartPolicy } from './spec.ts'

/** Delay before a replacement runs when the policy names none: 5 s, in nanoseconds. */
export const RESTART_DELAY_DEFAULT_NS = 5_000_000_000

/** The id of the one task that may succeed `taskId` in its slot by restart. */
export function successorTaskId(taskId: string): string {
  const hash = createHash('sha256').update('skein restart\0').update(taskId).digest()
  return base36(hash.subarray(0, IDENTIFIER_BYTES), IDENTIFIER_DIGITS)
}

/** Nanoseconds that the policy asks to wait before the replacement runs. */
export function restartDelayNs(policy: RestartPolicy | undefined): number {
  return policy?.Delay ?? RESTART_DELAY_DEFAULT_NS
}

/** Whether the policy wants a successor for `task`, which ended: its condition and attempts. */
export function wantsRestart(task: Pick<Task, 'spec' | 'status' | 'attempt'>): boolean {
  const policy = task.spec.RestartPolicy
  const maxAttempts = policy?.MaxAttempts ?? 0
  if (maxAttempts > 0 && task.attempt >= maxAttempts) return false
  if (policy?.Condition === 'none') return false
  return policy?.Condition !== 'on-failure' || task.status.state !== 'complete'
}
