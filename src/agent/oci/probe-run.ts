/**
 * The test container of `probe.ts`: the host's own shell, bind-mounted read-only, must exit with 7.
 */
import { existsSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { SwarmError } from '../../base/errors.ts'
import { newIdentifier } from '../../base/identifiers.ts'
import type { Random } from '../../base/random.ts'
import type { Task } from '../../store/objects.ts'
import type { Executor, TaskPlan } from '../ports.ts'

const PROBE_EXIT_CODE = 7
/** Longest a probe may take, milliseconds. */
const PROBE_TIMEOUT_MS = 10_000

/** Where a dynamically linked shell finds what it needs. */
const HOST_DIRECTORIES: readonly string[] = ['/bin', '/lib', '/lib64', '/usr']

/** Runs the test container to its end. @throws RUNTIME_FAILED when anything is not as it must be */
export async function runProbe(
  executor: Executor,
  random: Random,
  dataDirectory: string,
): Promise<void> {
  const id = newIdentifier(random)
  const place = join(dataDirectory, 'probe', id)
  const directory = join(place, id)
  const layer = join(place, 'layer')
  const signal = AbortSignal.timeout(PROBE_TIMEOUT_MS)
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 })
    for (const name of ['dev', 'proc', 'sys', 'etc', 'bin', 'lib', 'lib64', 'usr']) {
      await mkdir(join(layer, name), { recursive: true })
    }
    const plan = probePlan(id, directory, layer)
    await executor.prepare(plan, { signal })
    await executor.start(plan)
    const { exitCode } = await executor.wait(directory, { signal })
    if (exitCode !== PROBE_EXIT_CODE) {
      throw new SwarmError('RUNTIME_FAILED', `the test container ended with ${exitCode}`)
    }
  } finally {
    await executor.remove(directory)
    await rm(place, { recursive: true, force: true })
  }
}

function probePlan(id: string, directory: string, layer: string): TaskPlan {
  const mounts = HOST_DIRECTORIES.filter((path) => existsSync(path)).map((path) => ({
    Type: 'bind' as const,
    Source: path,
    Target: path,
    ReadOnly: true,
  }))
  return {
    task: probeTask(id, mounts),
    image: {
      digest: '',
      layerDirectories: [layer],
      config: {
        entrypoint: ['/bin/sh', '-c', `exit ${PROBE_EXIT_CODE}`],
        command: [],
        env: [],
        workingDirectory: '/',
        user: '',
        labels: {},
        volumes: [],
        exposedPorts: [],
      },
    },
    directory,
    hostname: 'probe',
    env: [],
  }
}

function probeTask(id: string, mounts: Task['spec']['ContainerSpec']['Mounts'] & object): Task {
  return {
    id,
    meta: { version: 0, createdVersion: 0, createdAt: '', updatedAt: '' },
    serviceId: '',
    slot: 1,
    nodeId: '',
    spec: {
      ContainerSpec: { Image: 'probe', Mounts: mounts },
      Resources: { Limits: { Pids: 64 } },
    },
    specVersion: 0,
    serviceName: 'probe',
    desiredState: 'running',
    status: { state: 'assigned', timestamp: '', message: '' },
    ports: [],
    attempt: 0,
  }
}
