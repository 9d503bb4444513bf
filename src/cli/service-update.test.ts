/** `./skein service update` and `rollback`: every part of a spec, against a real API server. */
import test from 'ava'
import type { ExecutionContext } from 'ava'
import type { ServiceSpec } from '../store/spec.ts'
import { manager, skein } from './testing/skein.ts'

interface Scene {
  /** Runs `skein service …` and expects it to succeed. */
  readonly service: (line: string) => Promise<void>
  /** Runs `skein service …`; what it says on standard error. */
  readonly refused: (line: string) => Promise<string>
  readonly network: (name: string) => Promise<void>
  readonly spec: () => ServiceSpec
}

async function scene(t: ExecutionContext): Promise<Scene> {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const run = (line: string): ReturnType<typeof skein> => skein(fixture, ...line.split(' '))
  const succeed = async (line: string): Promise<void> => {
    const { exitCode, err } = await run(line)
    t.is(exitCode, 0, `${line}: ${err}`)
  }
  return {
    service: (line) => succeed(`service ${line}`),
    network: (name) => succeed(`network create ${name}`),
    async refused(line) {
      const { exitCode, err } = await run(`service ${line}`)
      t.not(exitCode, 0, line)
      return err
    },
    spec() {
      const [service] = fixture.swarm.store.find('services', 'name', 'web')
      if (service === undefined) throw new Error('there is no service web')
      return service.spec
    },
  }
}

test('labels, mounts, constraints and preferences are added and removed one by one', async (t) => {
  const { service, spec } = await scene(t)
  const lists =
    '-l a=1 -l b=2 --container-label c=3 --mount type=tmpfs,dst=/t --constraint node.labels.x==1'
  await service(`create -d --name web ${lists} --placement-pref spread=node.labels.site web:1`)
  const labels = '--label-add b=3 --label-add d= --label-rm a --container-label-rm c'
  const mounts = '--mount-add type=bind,src=/etc,dst=/e --mount-add type=tmpfs,dst=/u --mount-rm /t'
  const places =
    '--constraint-add node.labels.y==2 --constraint-rm node.labels.x==1 ' +
    '--placement-pref-add spread=node.id'
  await service(`update -d ${labels} ${mounts} ${places} web`)
  const { Labels: found, TaskTemplate: template } = spec()
  t.deepEqual(found, { b: '3', d: '' })
  t.deepEqual(template.ContainerSpec.Labels, {})
  t.deepEqual(
    template.ContainerSpec.Mounts?.map(({ Target: target }) => target),
    ['/e', '/u'],
  )
  t.deepEqual(template.Placement?.Constraints, ['node.labels.y==2'])
  t.deepEqual(template.Placement?.Preferences, [
    { Spread: { SpreadDescriptor: 'node.labels.site' } },
    { Spread: { SpreadDescriptor: 'node.id' } },
  ])
})

test('ports are removed by target, and a published port goes to its last target', async (t) => {
  const { service, spec, refused } = await scene(t)
  await service('create -d --name web -p 8080:80 -p 53:53/udp -p 9000:90 web:1')
  await service('update -d --publish-rm 80 --publish-rm 53 --publish-add 9000:91 web')
  const ports = spec().EndpointSpec?.Ports?.map(
    ({ PublishedPort: published, TargetPort: target, Protocol: protocol }) =>
      `${published}:${target}/${protocol}`,
  )
  t.deepEqual(ports, ['53:53/udp', '9000:91/tcp'], 'the port of another protocol stays')
  await service('update -d --publish-rm 53/udp --publish-rm 91 --endpoint-mode dnsrr web')
  t.deepEqual(spec().EndpointSpec, { Mode: 'dnsrr', Ports: [] })
  t.regex(await refused('update -d --publish-add nonsense web'), /invalid port "nonsense"/)
})

test('networks come and go by name, and one that is not there changes nothing', async (t) => {
  const { service, network, spec, refused } = await scene(t)
  for (const name of ['front', 'back']) await network(name)
  await service('create -d --name web --network front web:1')
  const [first] = spec().TaskTemplate.Networks ?? []
  await service('update -d --network-add name=back,alias=db web')
  t.is(spec().TaskTemplate.Networks?.length, 2)
  await service('update -d --network-add name=back,alias=base --network-rm front web')
  const [left, ...others] = spec().TaskTemplate.Networks ?? []
  t.deepEqual(left?.Aliases, ['base'])
  t.not(left?.Target, first?.Target)
  t.deepEqual(others, [])
  const before = spec()
  t.regex(await refused('update -d --network-rm nosuch web'), /nosuch/)
  t.deepEqual(spec(), before)
})

test('limits, restarts and the container’s settings change singly', async (t) => {
  const { service, spec } = await scene(t)
  const limits = '--limit-cpu .5 --limit-memory 64m --restart-delay 3s --restart-condition any'
  await service(`create -d --name web ${limits} --hostname h --init --cap-add NET_ADMIN web:1`)
  const change = '--limit-memory 128m --reserve-cpu .25 --restart-max-attempts 4 --user 7'
  const flags = '--init=false --read-only --stop-grace-period 3s --cap-drop NET_ADMIN'
  await service(`update -d ${change} ${flags} --replicas-max-per-node 2 web`)
  const { ContainerSpec: container, ...template } = spec().TaskTemplate
  t.deepEqual(template.Resources, {
    Limits: { NanoCPUs: 5e8, MemoryBytes: 128 * 1024 ** 2 },
    Reservations: { NanoCPUs: 2.5e8 },
  })
  t.like(template.RestartPolicy, { Condition: 'any', Delay: 3e9, MaxAttempts: 4 })
  t.is(template.Placement?.MaxReplicas, 2)
  t.like(container, { Hostname: 'h', User: '7', Init: false, ReadOnly: true, StopGracePeriod: 3e9 })
  t.deepEqual(container.CapabilityAdd ?? [], [])
  t.is(container.CapabilityDrop?.length, 1)
})

test('a rollback brings the spec before back, and takes no other flag', async (t) => {
  const { service, spec, refused } = await scene(t)
  await service('create -d --name web -l a=1 web:1')
  await service('update -d --label-add a=2 web')
  await service('update -d --rollback web')
  t.deepEqual(spec().Labels, { a: '1' })
  await service('rollback -d web')
  t.deepEqual(spec().Labels, { a: '2' }, 'and back')
  t.regex(
    await refused('update -d --rollback --label-add a=3 web'),
    /other flags may not be combined with --rollback: --label-add/,
  )
  t.deepEqual(spec().Labels, { a: '2' })
})

test('-f of network prune is docker’s --force', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  t.is((await skein(fixture, 'network', 'create', 'idle')).exitCode, 0)
  const pruned = await skein(fixture, 'network', 'prune', '-f')
  t.is(pruned.out, 'idle\n', pruned.err)
})
