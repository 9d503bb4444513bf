/** Task plans for tests of executors, without an agent around them. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { newIdentifier } from '../../base/identifiers.ts'
import { systemRandom } from '../../base/random.ts'
import type { TaskSpec } from '../../store/spec.ts'
import { FIXTURE_TIME, taskDraft } from '../../store/testing/fixtures.ts'
import type { Readiness } from '../health/readiness.ts'
import type { TaskNetworking, TaskPlan } from '../ports.ts'
import { imageOf } from './rootfs.ts'

/** What a test says of a task. */
export interface PlanWishes {
  readonly script?: string
  readonly container?: Partial<TaskSpec['ContainerSpec']>
  readonly resources?: TaskSpec['Resources']
  readonly networking?: TaskNetworking
  readonly env?: readonly string[]
  readonly targetPorts?: readonly number[]
  /** Lines for `sh -c` that check its health. */
  readonly check?: string
}

/** A plan that runs `script` under `sh -c`, with its directory made. */
export async function testPlan(
  place: { readonly dataDirectory: string; readonly rootfs: string },
  wishes: PlanWishes,
): Promise<TaskPlan> {
  const id = newIdentifier(systemRandom)
  const directory = join(place.dataDirectory, 'tasks', id)
  await mkdir(directory, { recursive: true })
  const command = wishes.script === undefined ? {} : { Command: ['sh', '-c', wishes.script] }
  const spec: TaskSpec = {
    ContainerSpec: { Image: 'busybox:1', ...command, ...wishes.container },
    ...(wishes.resources === undefined ? {} : { Resources: wishes.resources }),
  }
  const ports = (wishes.targetPorts ?? []).map((targetPort) => ({
    protocol: 'tcp' as const,
    targetPort,
    publishedPort: 0,
    publishMode: 'ingress' as const,
  }))
  const meta = {
    version: 1,
    createdVersion: 1,
    createdAt: FIXTURE_TIME,
    updatedAt: FIXTURE_TIME,
  }
  return {
    task: { ...taskDraft(id, { spec, ports }), meta },
    image: imageOf(place.rootfs),
    directory,
    hostname: 'testhost',
    env: wishes.env ?? [],
    ...(wishes.networking === undefined ? {} : { networking: wishes.networking }),
    ...(wishes.check === undefined ? {} : { readiness: readinessOf(wishes.check) }),
  }
}

function readinessOf(line: string): Readiness {
  const argv = ['sh', '-c', line]
  const check = {
    argv,
    intervalMs: 100,
    timeoutMs: 100,
    startPeriodMs: 0,
    startIntervalMs: 0,
    retries: 1,
  }
  return { type: 'check', check }
}
