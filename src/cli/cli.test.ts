/** `./skein` as people run it: processes against a real API server over a real store. */
import { mkdtemp, rm as removeAll, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import test from 'ava'
import { startFixture } from '../api/testing/fixture.ts'
import { SKEIN, runSkein, skein, manager } from './testing/skein.ts'

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
