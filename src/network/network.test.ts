/** The reconciler, on the real store and the real userspace driver. */
import test from 'ava'
import { systemClock } from '../base/clock.ts'
import { silentLogger } from '../base/log.ts'
import { Store } from '../store/store.ts'
import {
  TestBackend,
  TestClient,
  ask,
  census,
  freePort,
  pause,
  until,
} from './conformance-peers.ts'
import { FAULT_RETRY_MS, NetworkReconciler } from './network.ts'
import type { BalancerFault, LoadBalancer, ServerChange, VirtualServer } from './ports.ts'
import { changeTo, takeOver } from './server-change.ts'
import { OPTIONS, ServiceScene, port, running, ended, userspace } from './testing/service-scene.ts'

test('commits move traffic at once: a new replica, a stopped one, a removed service', async (t) => {
  const scene = new ServiceScene()
  const balancer = userspace()
  const components = { store: scene.store, balancer, log: silentLogger, clock: systemClock }
  const reconciler = new NetworkReconciler(components, OPTIONS)
  const peers = await Promise.all(['a', 'b'].map((name) => TestBackend.start(name)))
  t.teardown(async () => {
    await reconciler.stop()
    await balancer.close()
    for (const peer of peers) peer.stop()
  })
  const published = await freePort()
  scene.node('here')
  scene.service([port(published)])
  for (const peer of peers) scene.process(peer, published)
  reconciler.start()
  await until('it listens', () => reconciler.status().servers === 1)
  t.deepEqual([...(await census(published, 4)).values()], [2, 2])
  const old = await TestClient.open(published)
  const name = await old.ask()
  scene.update(name, { status: ended() })
  await until('the connection to the dead is closed', () => old.closed)
  const other = name === 'a' ? 'b' : 'a'
  t.deepEqual(await census(published, 4), new Map([[other, 4]]))
  scene.write({ type: 'remove', table: 'services', id: 'web' })
  await until('nothing is wanted', () => reconciler.status().servers === 0)
  await t.throwsAsync(ask(published))
})

/** Records what it is told; fails as told. */
class RecordingBalancer implements LoadBalancer {
  readonly name = 'userspace'
  readonly hasVirtualAddresses = false
  readonly reason = 'test'
  /** What was wanted after each call. */
  readonly applied: (readonly VirtualServer[])[] = []
  readonly #wanted = new Map<string, VirtualServer>()
  faults: readonly BalancerFault[] = []

  apply(wanted: readonly VirtualServer[]): Promise<readonly BalancerFault[]> {
    return this.change(changeTo(this.#wanted, wanted))
  }

  change(change: ServerChange): Promise<readonly BalancerFault[]> {
    takeOver(this.#wanted, change)
    this.applied.push([...this.#wanted.values()])
    return Promise.resolve(this.faults)
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}

test('commits in quick succession are one apply, and no commit is none', async (t) => {
  const scene = new ServiceScene()
  const balancer = new RecordingBalancer()
  const components = { store: scene.store, balancer, log: silentLogger, clock: systemClock }
  const reconciler = new NetworkReconciler(components, OPTIONS)
  reconciler.start()
  await until('the first apply', () => balancer.applied.length === 1)
  scene.node('here')
  scene.service([port(8080)])
  for (let i = 0; i < 50; i += 1) scene.task(`task${i}`)
  await until('the second apply', () => balancer.applied.length === 2)
  t.is(balancer.applied[1]?.[0]?.backends.length, 50)
  scene.write({ type: 'create', table: 'networks', object: { id: 'n', spec: { Name: 'n' } } })
  scene.update('task7', { status: { ...running(), message: 'said again' } })
  await pause(50)
  t.is(balancer.applied.length, 2)
  await reconciler.stop()
  scene.task('late')
  await pause(30)
  t.is(balancer.applied.length, 2)
})

test('a fault is shown, and tried again by timer until it is gone', async (t) => {
  const balancer = new RecordingBalancer()
  const due: { delayMs: number; callback: () => void }[] = []
  const clock = {
    ...systemClock,
    after(delayMs: number, callback: () => void) {
      const entry = { delayMs, callback }
      due.push(entry)
      return { cancel: () => void due.splice(due.indexOf(entry), 1) }
    },
  }
  const fire = (delayMs: number): void => {
    const found = due.findIndex((entry) => entry.delayMs === delayMs)
    due.splice(found, 1)[0]?.callback()
  }
  const store = new Store()
  const components = { store, balancer, log: silentLogger, clock }
  const reconciler = new NetworkReconciler(components, OPTIONS)
  balancer.faults = [{ id: 'web/tcp/8080', message: 'port 8080: is taken' }]
  reconciler.start()
  fire(10)
  await until('the retry is planned', () => due.some((entry) => entry.delayMs === FAULT_RETRY_MS))
  t.deepEqual(reconciler.status().faults, balancer.faults)
  balancer.faults = []
  fire(FAULT_RETRY_MS)
  fire(10)
  await until('it is gone', () => reconciler.status().faults.length === 0)
  t.deepEqual(due, [])
  await reconciler.stop()
})
