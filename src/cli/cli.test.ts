/** `./skein` as people run it: processes against a real API server over a real store. */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm as removeAll, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { startFixture } from '../api/testing/fixture.ts'
import type { ApiFixture } from '../api/testing/fixture.ts'

const SKEIN = fileURLToPath(new URL('../../skein', import.meta.url))

interface Outcome {
  readonly exitCode: number
  readonly out: string
  readonly err: string
}

interface Run {
  readonly args: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly program?: string
}

function runSkein({ args, environment = {}, program = SKEIN }: Run): Promise<Outcome> {
  return new Promise((resolve) => {
    const env = { PATH: process.env['PATH'] ?? '', HOME: tmpdir(), ...environment }
    execFile(program, args, { env, encoding: 'utf8' }, (error, out, err) => {
      const code = error?.code
      resolve({ exitCode: error === null ? 0 : typeof code === 'number' ? code : 1, out, err })
    })
  })
}

function skein(fixture: ApiFixture, ...args: readonly string[]): Promise<Outcome> {
  return runSkein({ args, environment: { SKEIN_HOST: `unix://${fixture.socketPath}` } })
}

async function manager(): Promise<ApiFixture> {
  const fixture = await startFixture()
  fixture.images.add('web:1')
  await fixture.swarm.init({
    listenAddress: '',
    advertiseAddress: '127.0.0.1',
    forceNewCluster: false,
    availability: 'active',
    addressPools: ['10.0.0.0/8'],
    subnetSize: 24,
  })
  return fixture
}

test('without a daemon, a command says where it looked', async (t) => {
  const environment = { SKEIN_HOST: 'unix:///tmp/no-such-skein.sock' }
  const outcome = await runSkein({ args: ['node', 'ls'], environment })
  t.is(outcome.exitCode, 1)
  t.regex(outcome.err, /^Cannot connect to the Skein daemon at unix:\/\/\/tmp\/no-such-skein\.sock/)
})

test('--host wins over SKEIN_HOST, and SKEIN_HOST over DOCKER_HOST', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const good = `unix://${fixture.socketPath}`
  const bad = 'unix:///tmp/no-such-skein.sock'
  const first = await runSkein({
    args: ['--host', good, 'node', 'ls', '-q'],
    environment: { SKEIN_HOST: bad, DOCKER_HOST: bad },
  })
  t.is(first.exitCode, 0, first.err)
  const second = await runSkein({
    args: ['node', 'ls', '-q'],
    environment: { SKEIN_HOST: good, DOCKER_HOST: bad },
  })
  t.is(second.exitCode, 0, second.err)
  const third = await runSkein({ args: ['node', 'ls', '-q'], environment: { DOCKER_HOST: good } })
  t.is(third.exitCode, 0, third.err)
  const remote = await runSkein({ args: ['-H', 'tcp://127.0.0.1:1', 'node', 'ls'] })
  t.regex(remote.err, /only unix:\/\/\/path is supported/)
})

test('the shim works through a symbolic link and from another folder', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'skein-link-'))
  t.teardown(() => removeAll(directory, { recursive: true, force: true }))
  const program = join(directory, 'skein')
  await symlink(SKEIN, program)
  const outcome = await runSkein({ args: ['--version'], program })
  t.regex(outcome.out, /^Skein version \d+\.\d+\.\d+\n$/)
})

test('help is there for everything', async (t) => {
  t.regex(
    (await runSkein({ args: [] })).out,
    /^Usage: {2}skein COMMAND[\s\S]*service +Manage Swarm/,
  )
  t.regex((await runSkein({ args: ['service'] })).out, /create +Create a new service/)
  const help = await runSkein({ args: ['service', 'create', '--help'] })
  t.is(help.exitCode, 0)
  t.regex(help.out, /Usage: {2}skein service create \[OPTIONS\] IMAGE \[COMMAND\] \[ARG\.\.\.\]/)
  for (const flag of ['--publish port', '-e, --env list', '--limit-memory bytes', '-d, --detach']) {
    t.true(help.out.includes(flag), flag)
  }
})

test('wrong flags exit with 125, all else that is wrong with 1, in docker’s words', async (t) => {
  const cases: readonly (readonly [args: readonly string[], exitCode: number, message: RegExp])[] =
    [
      [
        ['service', 'create', '--bogus', 'a'],
        125,
        /^unknown flag: --bogus\n\nUsage: {2}skein service/,
      ],
      [['service', 'create', '-Z', 'a'], 125, /^unknown shorthand flag: 'Z' in -Z/],
      [['service', 'create', '--name'], 125, /^flag needs an argument: --name/],
      [
        ['service', 'create', '--replicas', 'x', 'a'],
        125,
        /^invalid argument "x" for "--replicas"/,
      ],
      [
        ['service', 'create', '-p', '1:2:3', 'a'],
        125,
        /^invalid argument "1:2:3" for "-p, --publish"/,
      ],
      [
        ['service', 'create', '--mount', 'type=x', 'a'],
        125,
        /^invalid argument "type=x" for "--mount"/,
      ],
      [['service', 'create', '--limit-memory', '1x', 'a'], 125, /not a size/],
      [['service', 'create'], 1, /^skein: 'skein service create' requires at least 1 argument/],
      [['node', 'ls', 'extra'], 1, /^skein: 'skein node ls' accepts no arguments/],
      [['swarm', 'join'], 1, /requires 1 argument/],
      [['bogus'], 1, /^skein: unknown command: skein bogus/],
      [['service', 'bogus'], 1, /^skein: unknown command: skein service bogus/],
      [['--bogus'], 125, /^unknown flag: --bogus/],
      [['service', 'scale', 'web'], 1, /^invalid scale specifier 'web'\./],
      [['service', 'create', '--network', 'x=y', 'a'], 1, /invalid field "x" in --network/],
      [['service', 'create', '--network', 'x', 'a'], 1, /network x not found/],
      [['node', 'ls', '--format', '{{.ID}}'], 1, /Go templates are not supported/],
      [['swarm', 'join', '127.0.0.1'], 1, /a join token is needed/],
      [['daemon', '--log-level', 'loud'], 125, /none of debug, info, warn, error/],
    ]
  const fixture = await manager()
  t.teardown(() => fixture.close())
  for (const [args, exitCode, message] of cases) {
    const outcome = await skein(fixture, ...args)
    t.regex(outcome.err, message, args.join(' '))
    t.is(outcome.exitCode, exitCode, args.join(' '))
  }
})

test('swarm init, join-token, join and leave', async (t) => {
  const fixture = await startFixture()
  t.teardown(() => fixture.close())
  const init = await skein(fixture, 'swarm', 'init', '--advertise-addr', '127.0.0.1')
  t.is(init.exitCode, 0, init.err)
  t.regex(init.out, /^Swarm initialized: current node \([0-9a-z]{25}\) is now a manager\.\n/)
  t.regex(init.out, / {4}skein swarm join --token SWMTKN-1-\S+ 127\.0\.0\.1:2377\n/)
  const before = await skein(fixture, 'swarm', 'join-token', '-q', 'worker')
  t.regex(before.out, /^SWMTKN-1-\S+\n$/)
  const rotated = await skein(fixture, 'swarm', 'join-token', '--rotate', 'worker')
  t.regex(rotated.out, /^Successfully rotated worker join token\.\n\nTo add a worker/)
  const after = await skein(fixture, 'swarm', 'join-token', '-q', 'worker')
  t.not(after.out, before.out)
  const onceToken = await skein(fixture, 'swarm', 'join-token', '--once', 'manager')
  t.regex(
    onceToken.out,
    /^To add a manager to this swarm[\s\S]*--token SWMTKN-1-\S+ 127[\s\S]*one node/,
  )
  const quiet = await skein(fixture, 'swarm', 'join-token', '--once', '-q', 'worker')
  t.regex(quiet.out, /^SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}\n$/)
  t.deepEqual(fixture.swarm.onceTokens, ['manager', 'worker'])
  const both = await skein(fixture, 'swarm', 'join-token', '--once', '--rotate', 'worker')
  t.is(both.exitCode, 1)
  t.regex(both.err, /--once and --rotate cannot be used together/)
  t.regex((await skein(fixture, 'swarm', 'leave')).err, /^Error response from daemon: You are/)
  t.is((await skein(fixture, 'swarm', 'leave', '--force')).out, 'Node left the swarm.\n')
  const token = after.out.trim()
  const joined = await skein(fixture, 'swarm', 'join', '--token', token, '127.0.0.1:2377')
  t.is(joined.out, 'This node joined a swarm as a worker.\n', joined.err)
})

test('node ls, inspect, ps, update, promote, demote and rm', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const worker = await fixture.swarm.addNode({
    role: 'worker',
    host: '127.0.0.2',
    hostname: 'gosling',
    state: 'down',
  })
  const ls = await skein(fixture, 'node', 'ls')
  t.regex(
    ls.out,
    /^ID {28}HOSTNAME {3}STATUS {4}AVAILABILITY {3}MANAGER STATUS {3}ENGINE VERSION\n/,
  )
  t.regex(ls.out, / \* {3}goose +Ready +Active +Leader +0\.1\.0\n/)
  const json = await skein(fixture, 'node', 'ls', '--format', 'json', '-f', 'role=worker')
  t.deepEqual(JSON.parse(json.out), {
    Availability: 'Active',
    EngineVersion: '0.1.0',
    Hostname: 'gosling',
    ID: worker,
    ManagerStatus: '',
    Self: false,
    Status: 'Down',
    TLSStatus: 'Ready',
  })
  const inspect = await skein(fixture, 'node', 'inspect', 'self', 'nosuch')
  t.is(inspect.exitCode, 1)
  t.is((JSON.parse(inspect.out) as unknown[]).length, 1)
  t.is(inspect.err, 'Error response from daemon: node nosuch not found\n')
  const pretty = await skein(fixture, 'node', 'inspect', '--pretty', 'self')
  t.regex(
    pretty.out,
    /\nExecutor: +process \(process\)\n Reason: +test\nBalancer: +userspace\n Reason: +test\n/,
  )
  t.is((await skein(fixture, 'node', 'ps')).exitCode, 0)
  const update = ['node', 'update', '--availability', 'pause', '--label-add', 'a=b', 'gosling']
  t.is((await skein(fixture, ...update)).out, 'gosling\n')
  t.deepEqual(fixture.swarm.store.get('nodes', worker)?.spec, {
    Labels: { a: 'b' },
    Role: 'worker',
    Availability: 'pause',
  })
  t.regex((await skein(fixture, 'node', 'promote', 'gosling')).out, /promoted to a manager/)
  t.regex((await skein(fixture, 'node', 'promote', 'gosling')).out, /is already a manager/)
  t.regex((await skein(fixture, 'node', 'demote', 'gosling')).out, /demoted in the swarm/)
  t.is((await skein(fixture, 'node', 'rm', 'gosling')).out, 'gosling\n')
})

test('networks are made, listed, inspected and removed', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const options = ['--subnet', '172.30.1.0/24', '-o', 'com.docker.network.driver.mtu=1400']
  const made = await skein(fixture, 'network', 'create', ...options, 'front')
  t.regex(made.out, /^[a-z0-9]{25}\n$/, made.err)
  t.regex((await skein(fixture, 'network', 'ls')).out, /front +overlay +swarm/)
  t.regex((await skein(fixture, 'network', 'inspect', 'front')).out, /"mtu": "1400"|mtu": "1400"/)
  const wrong = await skein(fixture, 'network', 'create', '--subnet', '172.30.1.0/33', 'x')
  t.regex(wrong.err, /invalid subnet 172\.30\.1\.0\/33/)
  const attachment = ['--network', 'name=front,alias=shop', '--endpoint-mode', 'dnsrr']
  const web = await skein(
    fixture,
    'service',
    'create',
    '-d',
    '--name',
    'web',
    ...attachment,
    'web:1',
  )
  t.is(web.exitCode, 0, web.err)
  const [service] = fixture.swarm.store.find('services', 'name', 'web')
  t.deepEqual(service?.spec.TaskTemplate.Networks, [{ Target: 'front', Aliases: ['shop'] }])
  t.is(service?.spec.EndpointSpec?.Mode, 'dnsrr')
  t.regex((await skein(fixture, 'network', 'rm', 'front')).err, /in use by service web/)
  t.is((await skein(fixture, 'network', 'create', 'idle')).exitCode, 0)
  t.is((await skein(fixture, 'network', 'prune')).out, 'idle\n')
  t.is((await skein(fixture, 'service', 'rm', 'web')).exitCode, 0)
  t.is((await skein(fixture, 'network', 'rm', 'front')).out, 'front\n')
  const part = await skein(fixture, 'network', 'create', '--ip-range', '172.30.1.0/25', 'x')
  t.regex(part.err, /need a --subnet/)
})

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

test('image load, ls and rm', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const archive = join(dirname(fixture.socketPath), 'image.tar')
  await writeFile(archive, 'app:7')
  t.is((await skein(fixture, 'image', 'load', '-i', archive)).out, 'Loaded image: app:7\n')
  t.regex(
    (await skein(fixture, 'image', 'load', '-i', '/no/such')).err,
    /^open \/no\/such: no such file or directory\n/,
  )
  const ls = await skein(fixture, 'image', 'ls')
  t.regex(ls.out, /^REPOSITORY {3}TAG {7}IMAGE ID {7}CREATED +SIZE\n/)
  t.regex(ls.out, /app {10}7 {9}bbbbbbbbbbbb {3}.* ago +1\.98MB\n/)
  t.is((await skein(fixture, 'image', 'ls', '-q', 'app')).out, 'bbbbbbbbbbbb\n')
  t.is((await skein(fixture, 'image', 'rm', 'app:7')).out, 'Untagged: app:7\n')
  t.is((await skein(fixture, 'image', 'rm', 'app:7')).exitCode, 1)
})

test('info and version', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const info = await skein(fixture, 'info')
  t.regex(info.out, /\n Executor: process \(process\)\n {2}Reason: test\n/)
  t.regex(info.out, /\n Swarm: active\n {2}NodeID: [0-9a-z]{25}\n {2}Is Manager: true\n/)
  t.regex(info.err, /^WARNING: tasks run as plain processes/)
  const json = await skein(fixture, 'info', '--format', 'json')
  t.is((JSON.parse(json.out) as { Name: string }).Name, 'goose')
  const version = await skein(fixture, 'version')
  t.regex(
    version.out,
    /^Client:\n Version: +0\.1\.0\n[\s\S]*\nServer: Skein\n Engine:\n {2}Version: +0\.1\.0\n/,
  )
  t.regex(
    version.out,
    /\n executor:\n {2}Version: +process\n[\s\S]* {2}Reason: +test\n balancer:\n/,
  )
})

test.serial('a request takes as long as this', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const timesMs: number[] = []
  for (let round = 0; round < 5; round++) {
    const start = performance.now()
    await skein(fixture, 'node', 'ls')
    timesMs.push(performance.now() - start)
  }
  const sorted = timesMs.toSorted((a, b) => a - b).map(Math.round)
  t.log(`skein node ls: best ${sorted[0]} ms, median ${sorted[2]} ms, worst ${sorted[4]} ms`)
  t.pass()
})
