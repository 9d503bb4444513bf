/** `./skein service` as people run it: flags, specs, updates, convergence. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import test from 'ava'
import { SKEIN, skein, manager } from './testing/skein.ts'

test('service create sends what its flags say', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const flags =
    '-d --name web --replicas 2 -p 8080:80 -p published=53,target=53,protocol=udp,mode=host ' +
    '-e A=1 --env HOME --env NOT_THERE -l tier=front --mount type=bind,src=/etc,dst=/e,ro ' +
    '--constraint node.role==manager --limit-cpu .5 --limit-memory 64m --reserve-memory=16m ' +
    '--restart-condition on-failure --restart-delay 1m30s --restart-max-attempts 3 ' +
    '--hostname h --user 1:1 --workdir /w --update-order start-first --update-delay 2s ' +
    '--rollback-max-failure-ratio .25'
  const create = await skein(
    fixture,
    ...['service', 'create', ...flags.split(' '), '--entrypoint', 'sh -c "a b"', 'web:1'],
    ...['sleep', '-d', '9'],
  )
  t.is(create.exitCode, 0, create.err)
  const spec = fixture.swarm.store.find('services', 'name', 'web')[0]?.spec
  t.deepEqual(spec?.Labels, { tier: 'front' })
  t.deepEqual(spec?.Mode, { Replicated: { Replicas: 2 } })
  t.deepEqual(spec?.EndpointSpec?.Ports, [
    { Protocol: 'tcp', TargetPort: 80, PublishedPort: 8080, PublishMode: 'ingress' },
    { Protocol: 'udp', TargetPort: 53, PublishedPort: 53, PublishMode: 'host' },
  ])
  t.deepEqual(spec?.UpdateConfig, { Parallelism: 1, Delay: 2e9, Order: 'start-first' })
  t.deepEqual(spec?.RollbackConfig, { Parallelism: 1, MaxFailureRatio: 0.25 })
  const template = spec?.TaskTemplate
  t.deepEqual(template?.ContainerSpec, {
    Image: `web:1@sha256:${'a'.repeat(64)}`,
    Command: ['sh', '-c', 'a b'],
    Args: ['sleep', '-d', '9'],
    Env: ['A=1', `HOME=${tmpdir()}`],
    Mounts: [{ Type: 'bind', Source: '/etc', Target: '/e', ReadOnly: true }],
    Hostname: 'h',
    User: '1:1',
    Dir: '/w',
  })
  t.deepEqual(template?.Resources, {
    Limits: { NanoCPUs: 500_000_000, MemoryBytes: 64 * 1024 ** 2 },
    Reservations: { MemoryBytes: 16 * 1024 ** 2 },
  })
  t.deepEqual(template?.RestartPolicy, {
    Condition: 'on-failure',
    Delay: 90_000_000_000,
    MaxAttempts: 3,
  })
  t.deepEqual(template?.Placement?.Constraints, ['node.role==manager'])
})

test('service create turns the flags of health checks into a spec, and refuses bad ones', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const create = (name: string, ...flags: string[]) =>
    skein(fixture, 'service', 'create', '-d', '--name', name, ...flags, 'web:1')
  const check = (name: string) =>
    fixture.swarm.store.find('services', 'name', name)[0]?.spec.TaskTemplate.ContainerSpec
      .Healthcheck
  const durations =
    '--health-interval 5s --health-timeout=1s500ms --health-retries 2 ' +
    '--health-start-period 1m --health-start-interval 500ms'
  await create('a', '--health-cmd', 'curl -f localhost || exit 1', ...durations.split(' '))
  t.deepEqual(check('a'), {
    Test: ['CMD-SHELL', 'curl -f localhost || exit 1'],
    Interval: 5e9,
    Timeout: 1.5e9,
    StartPeriod: 60e9,
    StartInterval: 0.5e9,
    Retries: 2,
  })
  await create('b', '--no-healthcheck')
  t.deepEqual(check('b'), { Test: ['NONE'] })
  await create('c')
  t.is(check('c'), undefined)
  const both = await create('d', '--no-healthcheck', '--health-retries', '1')
  t.regex(both.err, /--no-healthcheck conflicts with --health-\* options/)
  const short = await create('d', '--health-interval', '1us')
  t.regex(short.err, /ContainerSpec: Interval in HealthConfig cannot be less than 1ms/)
})

test('service update changes what its flags name and keeps the rest', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const service = (...args: string[]) => skein(fixture, 'service', ...args)
  const spec = () => fixture.swarm.store.find('services', 'name', 'web')[0]?.spec
  const container = () => spec()?.TaskTemplate.ContainerSpec
  const check = ['--health-cmd', 'well', '--health-interval', '5s']
  const before = ['-e', 'A=1', '-e', 'B=2', '--update-parallelism', '5']
  const create = ['create', '-d', '--name', 'web', ...before, ...check, 'web:1']
  t.is((await service(...create)).exitCode, 0)
  const env = ['--env-add', 'A=3', '--env-rm', 'B', '--env-add', 'C=4']
  const pace = ['--update-order', 'start-first', '--replicas', '2', '--force']
  const update = await service('update', '-d', ...env, ...pace, '--health-retries', '9', 'web')
  t.is(update.out, 'web\n', update.err)
  t.deepEqual(container()?.Env, ['A=3', 'C=4'])
  t.deepEqual(container()?.Healthcheck, { Test: ['CMD-SHELL', 'well'], Interval: 5e9, Retries: 9 })
  t.deepEqual(spec()?.UpdateConfig, { Parallelism: 5, Order: 'start-first' })
  t.deepEqual(spec()?.Mode, { Replicated: { Replicas: 2 } })
  t.is(spec()?.TaskTemplate.ForceUpdate, 1)
  await service('update', '-d', '--no-healthcheck', 'web')
  t.deepEqual(container()?.Healthcheck, { Test: ['NONE'] })
  await service('update', '-d', '--health-timeout', '1s', '--args', 'sleep 9', 'web')
  t.deepEqual(container()?.Healthcheck, { Timeout: 1e9 }, 'the image’s own again')
  t.deepEqual(container()?.Args, ['sleep', '9'])
  t.regex((await service('update', '-d', 'nosuch')).err, /no such service|not found/)
})

test('service ls, ps, inspect, scale and rm', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  await skein(fixture, 'service', 'create', '-d', '--name', 'web', '-p', '8080:80', 'web:1')
  const ls = await skein(fixture, 'service', 'ls')
  t.regex(ls.out, /^ID {13}NAME {6}MODE {9}REPLICAS {3}IMAGE {5}PORTS\n/)
  t.regex(ls.out, /\n[0-9a-z]{12} {3}web {7}replicated {3}1\/1 {8}web:1 {5}\*:8080->80\/tcp\n$/)
  const ps = await skein(fixture, 'service', 'ps', 'web', 'nosuch')
  t.is(ps.exitCode, 1)
  t.regex(ps.out, /web\.1 +web:1 +goose +Running +Running (less than a|\d+) seconds? ago/)
  t.is(ps.err, 'no such service: nosuch\n')
  const inspect = await skein(fixture, 'service', 'inspect', '--format', 'json', 'web')
  t.is((JSON.parse(inspect.out) as { Spec: { Name: string } }[])[0]?.Spec.Name, 'web')
  const missing = await skein(fixture, 'service', 'inspect', 'nosuch')
  t.is(missing.err, 'Error: no such service: nosuch\n')
  t.is((await skein(fixture, 'service', 'scale', '-d', 'web=3')).out, 'web scaled to 3\n')
  t.regex((await skein(fixture, 'service', 'ls')).out, /3\/3/)
  const rm = await skein(fixture, 'service', 'rm', 'nosuch', 'web')
  t.is(rm.out, 'web\n')
  t.is(rm.err, 'Error response from daemon: service nosuch not found\n')
  t.is(rm.exitCode, 1)
})

test('a service that cannot be placed is explained, and Ctrl-C leaves it', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const child = spawn(
    SKEIN,
    ['service', 'create', '--name', 'stuck', '--constraint', 'node.role==worker', 'web:1'],
    { env: { ...process.env, SKEIN_HOST: `unix://${fixture.socketPath}` } },
  )
  const printed = { out: '', err: '' }
  const explained = Promise.withResolvers<void>()
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    printed.out += text
    if (printed.out.includes('no suitable node')) explained.resolve()
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => (printed.err += text))
  const exited = once(child, 'exit')
  await Promise.race([explained.promise, exited])
  child.kill('SIGINT')
  const [exitCode] = (await exited) as [number]
  t.is(exitCode, 0)
  t.regex(printed.out, /overall progress: 0 out of 1 tasks/)
  t.regex(printed.out, /1\/1: no suitable node \(scheduling constraints not satisfied on 1 node\)/)
  t.regex(printed.err, /Operation continuing in background/)
  t.is(fixture.swarm.store.find('services', 'name', 'stuck').length, 1)
})

test('service create shows its way to convergence, each line once', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const create = await skein(
    fixture,
    'service',
    'create',
    '--replicas',
    '2',
    '--name',
    'w',
    'web:1',
  )
  t.is(create.exitCode, 0, create.err)
  const lines = create.out.trim().split('\n')
  t.is(new Set(lines).size, lines.length)
  t.true(lines.includes('overall progress: 2 out of 2 tasks'))
  t.is(lines.at(-1), 'verify: Service w converged')
})
