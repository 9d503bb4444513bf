/** The unmodified docker CLI against this server. Skipped, loudly, where it is not installed. */
import { execFile, spawnSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import test from 'ava'
import { ipv6PrefixOf } from '../store/ipv6.ts'
import { makeDualStack } from './testing/dual-stack.ts'
import { startFixture } from './testing/fixture.ts'
import type { ApiFixture } from './testing/fixture.ts'

const found = spawnSync('docker', ['--version'], { encoding: 'utf8' }).status === 0

const withDocker = found ? test : test.skip
if (!found)
  test('SKIPPED: no docker CLI on PATH, so what it does is not tested here', (t) => t.pass())

interface Outcome {
  readonly exitCode: number
  readonly out: string
  readonly err: string
}

function docker(fixture: ApiFixture, ...args: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const env = { ...process.env, DOCKER_HOST: `unix://${fixture.socketPath}` }
    execFile('docker', args, { env, encoding: 'utf8' }, (error, out, err) => {
      const code = error?.code
      resolve({ exitCode: error === null ? 0 : typeof code === 'number' ? code : 1, out, err })
    })
  })
}

async function manager(): Promise<ApiFixture> {
  const fixture = await startFixture()
  fixture.images.add('web:1')
  const outcome = await docker(fixture, 'swarm', 'init', '--advertise-addr', '127.0.0.1')
  if (outcome.exitCode !== 0) throw new Error(outcome.err)
  return fixture
}

withDocker('docker version and info know the daemon, in a swarm or not', async (t) => {
  const fixture = await startFixture()
  t.teardown(() => fixture.close())
  const version = await docker(fixture, 'version')
  t.is(version.exitCode, 0, version.err)
  t.regex(version.out, /Server: Skein\n Engine:\n {2}Version: +0\.1\.0/)
  t.regex(version.out, /API version: +1\.50 \(minimum version 1\.24\)/)
  t.regex((await docker(fixture, 'info')).out, /Swarm: inactive/)
  await docker(fixture, 'swarm', 'init')
  const info = await docker(fixture, 'info')
  t.is(info.exitCode, 0)
  t.regex(info.out, /Swarm: active\n {2}NodeID: [0-9a-z]{25}\n {2}Is Manager: true/)
  t.regex(info.out, /Managers: 1\n {2}Nodes: 1/)
})

withDocker('docker swarm init, join-token, update and leave', async (t) => {
  const fixture = await startFixture()
  t.teardown(() => fixture.close())
  const init = await docker(fixture, 'swarm', 'init', '--advertise-addr', '127.0.0.1')
  t.regex(init.out, /Swarm initialized: current node \([0-9a-z]{25}\) is now a manager/)
  t.regex(init.out, /docker swarm join --token SWMTKN-1-\S+ 127\.0\.0\.1:2377/)
  t.regex((await docker(fixture, 'swarm', 'init')).err, /This node is already part of a swarm/)
  const quiet = await docker(fixture, 'swarm', 'join-token', '-q', 'worker')
  const rotated = await docker(fixture, 'swarm', 'join-token', '--rotate', 'worker')
  t.regex(rotated.out, /Successfully rotated worker join token/)
  t.false(rotated.out.includes(quiet.out.trim()))
  const update = await docker(fixture, 'swarm', 'update', '--task-history-limit', '2')
  t.is(update.out, 'Swarm updated.\n')
  t.is(fixture.swarm.store.cluster()?.spec.Orchestration?.TaskHistoryRetentionLimit, 2)
  const refused = await docker(fixture, 'swarm', 'leave')
  t.is(refused.exitCode, 1)
  t.regex(refused.err, /participating as a manager/)
  t.is((await docker(fixture, 'swarm', 'leave', '--force')).out, 'Node left the swarm.\n')
  t.regex(
    (await docker(fixture, 'node', 'ls')).err,
    /Use "docker swarm init" or "docker swarm join"/,
  )
})

withDocker('docker swarm join as a worker, which then refuses manager commands', async (t) => {
  const fixture = await startFixture()
  t.teardown(() => fixture.close())
  const wrong = await docker(fixture, 'swarm', 'join', '--token', 'SWMTKN-1-x', '127.0.0.1:2377')
  t.is(wrong.err, 'Error response from daemon: invalid join token\n')
  const { worker } = await fixture.swarm.joinTokens()
  const joined = await docker(fixture, 'swarm', 'join', '--token', worker, '127.0.0.1:2377')
  t.is(joined.out, 'This node joined a swarm as a worker.\n')
  t.regex((await docker(fixture, 'node', 'ls')).err, /Worker nodes can't be used to view or modify/)
})

withDocker('docker node ls, inspect, ps, update, promote, demote and rm', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const worker = await fixture.swarm.addNode({
    role: 'worker',
    host: '127.0.0.2',
    hostname: 'gosling',
    state: 'down',
  })
  const ls = await docker(fixture, 'node', 'ls')
  t.regex(ls.out, / \* {3}goose +Ready +Active +Leader +0\.1\.0/)
  t.regex(ls.out, /gosling +Down +Active/)
  t.is((await docker(fixture, 'node', 'ls', '-q', '-f', 'role=worker')).out.trim(), worker)
  const inspect = await docker(fixture, 'node', 'inspect', 'self', '--pretty')
  t.regex(inspect.out, /Hostname: +\tgoose/)
  t.regex(inspect.out, /skein\.executor=process/)
  t.is((await docker(fixture, 'node', 'ps')).exitCode, 0)
  await docker(
    fixture,
    'node',
    'update',
    '--availability',
    'drain',
    '--label-add',
    'a=b',
    'gosling',
  )
  t.deepEqual(fixture.swarm.store.get('nodes', worker)?.spec, {
    Labels: { a: 'b' },
    Role: 'worker',
    Availability: 'drain',
  })
  const promoted = await docker(fixture, 'node', 'promote', 'gosling')
  t.is(promoted.out, 'Node gosling promoted to a manager in the swarm.\n')
  t.regex((await docker(fixture, 'node', 'rm', 'gosling')).err, /is a cluster manager/)
  t.is((await docker(fixture, 'node', 'demote', 'gosling')).exitCode, 0)
  t.regex((await docker(fixture, 'node', 'demote', 'goose')).err, /demote the last manager/)
  t.is((await docker(fixture, 'node', 'rm', 'gosling')).out, 'gosling\n')
  t.is(fixture.swarm.store.list('nodes').length, 1)
})

withDocker('docker service create, ls, ps, inspect, scale, update, rollback and rm', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const create = await docker(
    ...([fixture, 'service', 'create', '-d', '--name', 'web', '--replicas', '2'] as const),
    ...(['-p', '8080:80', '--env', 'A=1', '--limit-memory', '64m', 'web:1', 'sleep', '9'] as const),
  )
  t.is(create.exitCode, 0, create.err)
  t.regex(create.out, /^[0-9a-z]{25}\n$/)
  t.regex(
    (await docker(fixture, 'service', 'ls')).out,
    /web +replicated +2\/2 +web:1 +\*:8080->80\/tcp/,
  )
  t.regex((await docker(fixture, 'service', 'ps', 'web')).out, /web\.1 +web:1 +goose +Running/)
  const pretty = await docker(fixture, 'service', 'inspect', '--pretty', 'web')
  t.regex(pretty.out, /Replicas:\t2/)
  t.regex(pretty.out, /PublishedPort = 8080/)
  t.is((await docker(fixture, 'service', 'scale', '-d', 'web=3')).out, 'web scaled to 3\n')
  t.regex((await docker(fixture, 'service', 'ls')).out, /3\/3/)
  const taken = await docker(fixture, 'service', 'create', '-d', '-p', '8080:81', 'web:1')
  t.regex(taken.err, /port '8080' is already in use by service 'web'/)
  const twice = await docker(fixture, 'service', 'create', '-d', '--name', 'web', 'web:1')
  t.regex(twice.err, /name conflicts with an existing object/)
  await docker(fixture, 'service', 'update', '-d', '--env-add', 'B=2', 'web')
  const env = (): readonly string[] | undefined =>
    fixture.swarm.store.find('services', 'name', 'web')[0]?.spec.TaskTemplate.ContainerSpec.Env
  t.deepEqual(env()?.toSorted(), ['A=1', 'B=2'])
  t.is((await docker(fixture, 'service', 'rollback', '-d', 'web')).exitCode, 0)
  t.deepEqual(env(), ['A=1'])
  t.is((await docker(fixture, 'service', 'rm', 'web')).out, 'web\n')
  t.regex((await docker(fixture, 'service', 'rm', 'web')).err, /service web not found/)
})

withDocker(
  'docker sets, changes and removes a health check, and is told what is wrong',
  async (t) => {
    const fixture = await manager()
    t.teardown(() => fixture.close())
    const service = (...args: string[]) => docker(fixture, 'service', ...args)
    const flags =
      '--health-interval 2s --health-timeout 1s --health-retries 2 --health-start-period 9s ' +
      '--health-start-interval 300ms'
    const cmd = ['--health-cmd', 'wget -q localhost']
    const create = await service(
      'create',
      '-d',
      '--name',
      'web',
      ...cmd,
      ...flags.split(' '),
      'web:1',
    )
    t.is(create.exitCode, 0, create.err)
    const inspect = async (): Promise<unknown> => {
      const format = '{{json .Spec.TaskTemplate.ContainerSpec.Healthcheck}}'
      return JSON.parse((await service('inspect', '--format', format, 'web')).out)
    }
    const check = {
      Test: ['CMD-SHELL', 'wget -q localhost'],
      Interval: 2e9,
      Timeout: 1e9,
      StartPeriod: 9e9,
      StartInterval: 0.3e9,
      Retries: 2,
    }
    t.deepEqual(await inspect(), check)
    const update = await service(
      'update',
      '-d',
      '--health-cmd',
      'true',
      '--health-retries',
      '9',
      'web',
    )
    t.is(update.exitCode, 0, update.err)
    t.deepEqual(await inspect(), { ...check, Test: ['CMD-SHELL', 'true'], Retries: 9 })
    t.is((await service('update', '-d', '--no-healthcheck', 'web')).exitCode, 0)
    t.deepEqual(await inspect(), { Test: ['NONE'] })
    const bad = await service(
      'create',
      '-d',
      '--health-cmd',
      'x',
      '--health-timeout',
      '1us',
      'web:1',
    )
    t.regex(bad.err, /Timeout in HealthConfig cannot be less than 1ms/)
  },
)

withDocker('docker service create waits until the service has converged', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const create = await docker(fixture, 'service', 'create', '--update-monitor', '1s', 'web:1')
  t.is(create.exitCode, 0, create.err)
  t.regex(create.out, /overall progress: 1 out of 1 tasks/)
  t.regex(create.out, /converged/)
})

withDocker('docker makes, shows and removes networks; a service names one', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const network = (...args: string[]) => docker(fixture, 'network', ...args)
  const subnet = ['--subnet', '172.30.1.0/24', '--gateway', '172.30.1.254', '--internal']
  const front = ['create', '-d', 'overlay', '--attachable', '--label', 'a=b', 'front']
  const created = await network(...front)
  t.regex(created.out, /^[a-z0-9]{25}\n$/, created.err)
  t.is((await network('create', '-d', 'overlay', ...subnet, 'back')).exitCode, 0)
  t.regex((await network('ls')).out, /front +overlay +swarm/)
  const custom = await network('ls', '-q', '--no-trunc', '--filter', 'type=custom')
  t.is(custom.out.trim().split('\n').length, 2)
  t.regex((await network('inspect', 'back')).out, /"Internal": true/)
  t.regex((await network('create', '-d', 'overlay', 'front')).err, /front already exists/)
  t.regex((await network('rm', 'host')).err, /pre-defined network and cannot be removed/)
  const web = ['service', 'create', '-d', '--name', 'web', '--network', 'front', 'web:1']
  t.is((await docker(fixture, ...web)).exitCode, 0)
  const [service] = fixture.swarm.store.find('services', 'name', 'web')
  const [target] = service?.spec.TaskTemplate.Networks ?? []
  t.is(target?.Target, created.out.trim())
  const host = ['service', 'create', '-d', '--name', 'h', '--network', 'host', 'web:1']
  t.is((await docker(fixture, ...host)).exitCode, 0)
  t.regex((await network('rm', 'front')).err, /in use by service web/)
  t.is((await network('rm', 'back')).out, 'back\n')
  t.is((await network('create', '-d', 'bridge', '--label', 'keep', 'near')).exitCode, 0)
  t.is((await network('create', '-d', 'overlay', 'idle')).exitCode, 0)
  t.is(
    (await network('ls', '-q', '--filter', 'driver=bridge', '--filter', 'dangling=true')).exitCode,
    0,
  )
  t.regex(
    (await network('prune', '-f', '--filter', 'label!=keep')).out,
    /Deleted Networks:\nidle\n/,
  )
  t.is((await network('prune', '-f', '--filter', 'until=24h')).out.trim(), '')
  t.regex((await network('prune', '-f')).out, /near\n/)
  t.regex((await network('create', '--opt', 'encrypted', '-d', 'overlay', 'x')).err, /no option/)
  const range = [
    '--subnet',
    '172.29.0.0/24',
    '--ip-range',
    '172.29.0.128/25',
    '--aux-address',
    'a=172.29.0.130',
  ]
  t.is((await network('create', '-d', 'overlay', ...range, 'part')).exitCode, 0)
  t.regex((await network('inspect', 'part')).out, /"IPRange": "172.29.0.128\/25"/)
  t.regex((await network('connect', 'part', 'web')).err, /Skein does not have this part/)
  t.regex((await network('inspect', 'back')).err, /network back not found/)
})

withDocker('docker images, load, image inspect and rmi', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const archive = join(dirname(fixture.socketPath), 'image.tar')
  await writeFile(archive, 'app:7')
  const load = await docker(fixture, 'load', '-i', archive)
  t.is(load.out, 'Loaded image: app:7\n', load.err)
  t.regex((await docker(fixture, 'images')).out, /app +7 +bbbbbbbbbbbb .* 1\.98MB/)
  t.is((await docker(fixture, 'image', 'inspect', 'app:7')).exitCode, 0)
  t.is((await docker(fixture, 'rmi', 'app:7')).out, 'Untagged: app:7\n')
  t.regex((await docker(fixture, 'rmi', 'app:7')).err, /No such image: app:7/)
})

withDocker(
  'docker inspect without a type, ps, network ls and events work as far as they go',
  async (t) => {
    const fixture = await manager()
    t.teardown(() => fixture.close())
    await docker(fixture, 'service', 'create', '-d', '--name', 'web', 'web:1')
    t.is((await docker(fixture, 'inspect', 'web')).exitCode, 0)
    t.regex((await docker(fixture, 'ps')).out, /web:1 .* web\.1\./)
    t.regex((await docker(fixture, 'network', 'ls')).out, /ingress +overlay +swarm/)
    t.is((await docker(fixture, 'events', '--until', '1')).exitCode, 0)
    t.regex((await docker(fixture, 'run', 'web:1')).err, /does not have this part of Docker's API/)
  },
)

withDocker('docker shows both ranges of a network with IPv6, and both addresses', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  await makeDualStack(fixture.swarm)
  const prefix = ipv6PrefixOf(fixture.swarm.store.cluster()?.id ?? '')
  const shown = async (format: string, ...args: string[]): Promise<string> => {
    const { out, err } = await docker(fixture, ...args, '--format', format)
    return `${out}${err}`.trim()
  }
  const ranges = '{{.EnableIPv6}}{{range .IPAM.Config}} {{.Subnet}}{{end}}'
  t.is(await shown(ranges, 'network', 'inspect', 'six'), `true 10.96.1.0/24 ${prefix}a60:100/120`)
  t.is(
    await shown('{{range .Endpoint.VirtualIPs}}{{.Addr}} {{end}}', 'service', 'inspect', 'web'),
    `10.96.1.2/24 10.96.2.2/24 ${prefix}a60:102/120`,
  )
  t.is(
    await shown('{{(index .NetworksAttachments 0).Addresses}}', 'inspect', 'dual-task'),
    `[10.32.3.7/32 ${prefix}a20:307/128]`,
  )
  const names = (await shown('{{.Networks}}', 'ps')).split(',')
  t.deepEqual(names.toSorted(), ['four', 'six'])
})
