/** A daemon is replaced, as by an upgrade, while clients ask another node: nobody notices. */
import test from 'ava'
import type { ExecutionContext } from 'ava'
import type { Daemon } from './harness/daemon.ts'
import { until } from './harness/daemon.ts'
import { Load, failureText } from './harness/load.ts'
import type { LoadReport } from './harness/load.ts'
import { TestSwarm } from './harness/swarm.ts'
import { createWeb, nodeIdOf, pids } from './harness/web.ts'

/** Requests through the first node while `daemon` is replaced; enough before, during, and after. */
async function loadDuringRestart(swarm: TestSwarm, daemon: Daemon, port: number) {
  const load = new Load(swarm.node(0).host, port)
  try {
    await moreRequests(load)
    const startedAt = performance.now()
    await daemon.kill('SIGTERM')
    await moreRequests(load)
    await daemon.start()
    await swarm.untilReady(swarm.node(0), swarm.daemons.length)
    const awayMs = Math.round(performance.now() - startedAt)
    await moreRequests(load)
    return { ...(await load.stop()), awayMs }
  } finally {
    await load.stop()
  }
}

async function moreRequests(load: Load): Promise<void> {
  const goal = load.requests + 200
  await until('200 more requests', async () => Promise.resolve(load.requests >= goal))
}

function tell(t: ExecutionContext, report: LoadReport & { readonly awayMs: number }): void {
  const { requests, failures, slowest, awayMs } = report
  const slowestMs = Math.round(slowest?.lastedMs ?? 0)
  t.log(
    `${requests} requests, ${failures.length} failed, slowest ${slowestMs} ms; away ${awayMs} ms`,
  )
  for (const failure of failures) t.log(failureText(failure))
}

test.serial('replicas elsewhere: not one request fails, whoever is replaced', async (t) => {
  await using swarm = new TestSwarm(3, 41)
  await swarm.start()
  await swarm.form(3)
  const last = swarm.node(2)
  const elsewhere = `node.id!=${await nodeIdOf(last)}`
  const tasks = await createWeb(swarm, 3, 8045, '--constraint', elsewhere)
  const before = pids(tasks)
  const report = await loadDuringRestart(swarm, last, 8045)
  tell(t, report)
  t.deepEqual(report.failures, [])
  t.deepEqual(pids(await swarm.untilRunning(swarm.node(0), 3)), before)
})

test.serial(
  'a replica on the replaced node too: it keeps its process, the others answer',
  async (t) => {
    await using swarm = new TestSwarm(3, 42)
    await swarm.start()
    await swarm.form(3)
    const before = pids(await createWeb(swarm, 3, 8046))
    for (const daemon of [swarm.node(2), swarm.node(1)]) {
      const report = await loadDuringRestart(swarm, daemon, 8046)
      tell(t, report)
      t.deepEqual(report.failures, [])
      t.is(report.answers.length, 3)
    }
    t.deepEqual(pids(await swarm.untilRunning(swarm.node(0), 3)), before)
  },
)
