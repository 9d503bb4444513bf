import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import type { TaskPlan } from '../ports.ts'
import { testPlan } from '../testing/test-plans.ts'
import { containerCapabilities, decodeCapabilityMask } from './capabilities.ts'
import { ALL_CAPABILITIES, DEFAULT_CAPABILITIES } from './capabilities.ts'
import { writeContainerFiles } from './container-files.ts'
import { clampLimits, parseLimits } from './limits-of-host.ts'
import { specMounts, systemMounts } from './mounts.ts'
import { cgroupResources, readCgroupFacts } from './resources.ts'
import { readFileInRoot } from './rootfs-path.ts'
import { seccompFilter } from './seccomp.ts'
import { ociSpec } from './spec.ts'
import { resolveUser } from './user.ts'

const ALL = new Set(ALL_CAPABILITIES)

interface SpecShape {
  readonly root: { readonly readonly: boolean }
  readonly process: {
    readonly noNewPrivileges: boolean
    readonly capabilities: { readonly ambient: readonly string[] }
  }
  readonly linux: { readonly namespaces: readonly { type: string; path?: string }[] }
}

test('a container gets Docker’s fourteen capabilities', (t) => {
  t.deepEqual(containerCapabilities([], [], ALL), DEFAULT_CAPABILITIES)
  t.is(DEFAULT_CAPABILITIES.length, 14)
})

test('capabilities are added and dropped with or without CAP_, and ALL means all', (t) => {
  t.deepEqual(containerCapabilities(['net_admin'], ['ALL'], ALL), ['CAP_NET_ADMIN'])
  t.deepEqual(containerCapabilities(['ALL'], [], ALL), [...ALL_CAPABILITIES].toSorted())
  t.false(containerCapabilities([], ['CAP_CHOWN'], ALL).includes('CAP_CHOWN'))
  t.throws(() => containerCapabilities(['FLY'], [], ALL), { message: /"FLY"/ })
})

test('no capability is asked for that the agent itself lacks', (t) => {
  const own = decodeCapabilityMask('00000000000000ff')
  t.deepEqual([...own], ALL_CAPABILITIES.slice(0, 8))
  t.true(containerCapabilities(['SYS_ADMIN'], [], own).every((name) => own.has(name)))
})

test('resource limits are clamped to our own hard limits when we cannot raise them', (t) => {
  const text = `Limit                     Soft Limit           Hard Limit           Units
Max open files            1024                 4096                 files
Max processes             unlimited            unlimited            processes
`
  const hard = parseLimits(text)
  t.is(hard.get('RLIMIT_NOFILE'), 4096)
  const wishes = [{ Name: 'nproc', Soft: 10, Hard: 20 }]
  t.deepEqual(clampLimits(wishes, { capabilities: new Set(), hard }), [
    { type: 'RLIMIT_NOFILE', soft: 4096, hard: 4096 },
    { type: 'RLIMIT_NPROC', soft: 10, hard: 20 },
  ])
  const mighty = { capabilities: new Set(['CAP_SYS_RESOURCE']), hard }
  t.is(clampLimits([], mighty)[0]?.hard, 1_048_576)
})

test('the cgroup layout is recognised: version 2, version 1, hybrid, none', (t) => {
  const v2 = 'cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n'
  const v1 = 'tmpfs /none/cg tmpfs rw 0 0\ncgroup /none/cg/memory cgroup rw,memory 0 0\n'
  const hybrid = `${v1}cgroup2 /none/cg/unified cgroup2 rw 0 0\n`
  t.deepEqual(readCgroupFacts(v2), { mode: 'v2', limitsSwap: true })
  t.is(readCgroupFacts(v1, '/none/cg').mode, 'v1')
  t.is(readCgroupFacts(hybrid, '/none/cg').mode, 'hybrid')
  t.is(readCgroupFacts('', '/none/cg').mode, 'none')
})

test('limits and reservations become quota, shares, memory with swap, and pids', (t) => {
  const resources = {
    Limits: { NanoCPUs: 500_000_000, MemoryBytes: 64 * 1024 * 1024, Pids: 20 },
    Reservations: { NanoCPUs: 2_000_000_000, MemoryBytes: 1024 },
  }
  t.deepEqual(cgroupResources(resources, { mode: 'v2', limitsSwap: true }), {
    devices: [{ allow: false, access: 'rwm' }],
    memory: { limit: 67_108_864, swap: 67_108_864, reservation: 1024 },
    cpu: { quota: 50_000, period: 100_000, shares: 2048 },
    pids: { limit: 20 },
  })
  const withoutSwap = cgroupResources(resources, { mode: 'v1', limitsSwap: false })
  t.is(withoutSwap.memory?.swap, undefined)
  t.deepEqual(cgroupResources(undefined, { mode: 'v2', limitsSwap: true }), {
    devices: [{ allow: false, access: 'rwm' }],
  })
})

test('containers see cgroups read-only unless the host’s layout forbids it', (t) => {
  const modes = ['v1', 'v2', 'hybrid'] as const
  const seen = modes.filter((mode) =>
    systemMounts({ mode, limitsSwap: true }).some((mount) => mount.type === 'cgroup'),
  )
  t.deepEqual(seen, ['v1', 'v2'])
})

test('the namespaces fit the cgroup version, and a given network is joined', async (t) => {
  const place = { dataDirectory: await mkdtemp(join(tmpdir(), 'skein-agent-')), rootfs: '/none' }
  t.teardown(() => rm(place.dataDirectory, { recursive: true }))
  const plan = await testPlan(place, { container: { ReadOnly: true } })
  const make = (mode: 'v1' | 'v2', networkNamespace: string, its = plan): SpecShape =>
    ociSpec({
      plan: its,
      argv: ['sh'],
      env: [],
      cwd: '/',
      user: { uid: 0, gid: 0, additionalGids: [], home: '/root' },
      rootPath: 'rootfs',
      mounts: [],
      networkNamespace,
      cgroupsPath: '/skein/x',
      host: { capabilities: ALL, hard: new Map() },
      cgroups: { mode, limitsSwap: true },
      seccomp: () => undefined,
    }) as unknown as SpecShape
  const types = (spec: SpecShape): string[] => spec.linux.namespaces.map(({ type }) => type)
  const v2 = make('v2', '/run/netns/n')
  t.deepEqual(types(v2), ['pid', 'ipc', 'uts', 'mount', 'network', 'cgroup'])
  t.is(v2.linux.namespaces.find(({ type }) => type === 'network')?.path, '/run/netns/n')
  t.true(v2.root.readonly)
  t.true(v2.process.noNewPrivileges)
  t.deepEqual(v2.process.capabilities.ambient, [])
  t.false(types(make('v1', '/run/netns/n')).includes('cgroup'))
  const task = { ...plan.task, networks: [{ networkId: 'host', aliases: [] }] }
  t.false(types(make('v2', '/run/netns/n', { ...plan, task })).includes('network'), "the host's")
})

test('users are found by name and number in the image’s own files', (t) => {
  const passwd = 'root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\n# x\nbad\n'
  const group = 'root:x:0:\nweb:x:1001:\nextra:x:1005:web,other\n'
  const resolve = (user: string, groups: readonly string[] = []): object =>
    resolveUser({ user, groups, passwd, group })
  t.deepEqual(resolve(''), { uid: 0, gid: 0, additionalGids: [], home: '/root' })
  t.deepEqual(resolve('web'), { uid: 1000, gid: 1001, additionalGids: [1005], home: '/home/web' })
  t.deepEqual(resolve('1000:0'), { uid: 1000, gid: 0, additionalGids: [], home: '/home/web' })
  t.deepEqual(resolve('77:extra', ['9']), { uid: 77, gid: 1005, additionalGids: [9], home: '/' })
  t.throws(() => resolve('nobody'), { message: /unable to find user nobody/ })
  t.throws(() => resolve('0:nobody'), { message: /unable to find group nobody/ })
  t.throws(() => resolve('4294967295'), { message: /unable to find user/ })
})

test('a link in the image never leads to a file of the host', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'skein-agent-'))
  t.teardown(() => rm(root, { recursive: true }))
  await mkdir(join(root, 'r/real/etc'), { recursive: true })
  await writeFile(join(root, 'passwd'), 'host secret')
  await writeFile(join(root, 'r/real/etc/passwd'), 'image file')
  await symlink('/real/etc', join(root, 'r/etc'))
  await symlink('../../../../passwd', join(root, 'r/up'))
  await symlink(join(root, 'passwd'), join(root, 'r/absolute'))
  await symlink('loop', join(root, 'r/loop'))
  const inside = join(root, 'r')
  t.is(await readFileInRoot(inside, '/etc/passwd'), 'image file')
  t.is(await readFileInRoot(inside, '/../../etc/passwd'), 'image file')
  t.is(await readFileInRoot(inside, '/up'), '')
  t.is(await readFileInRoot(inside, '/absolute'), '')
  t.is(await readFileInRoot(inside, '/loop'), '')
  t.is(await readFileInRoot(inside, '/real'), '')
})

test('mounts are checked in Docker’s words and ordered by depth', async (t) => {
  const place = { volumesDirectory: await mkdtemp(join(tmpdir(), 'skein-agent-')) }
  t.teardown(() => rm(place.volumesDirectory, { recursive: true }))
  const mounts = await specMounts(
    [
      { Type: 'tmpfs', Target: '/a/b/c', TmpfsOptions: { SizeBytes: 4096, Mode: 0o700 } },
      { Type: 'bind', Source: '/etc', Target: '/a', ReadOnly: true },
      { Type: 'volume', Source: 'data', Target: '/a/b' },
    ],
    place,
  )
  t.deepEqual(
    mounts.map((mount) => [mount.destination, mount.options.join()]),
    [
      ['/a', 'rbind,ro,rprivate'],
      ['/a/b', 'rbind,rw,rprivate'],
      ['/a/b/c', 'nosuid,nodev,noexec,mode=700,size=4096'],
    ],
  )
  const missing = { Type: 'bind', Source: '/does/not/exist', Target: '/x' } as const
  await t.throwsAsync(specMounts([missing], place), {
    message:
      'invalid mount config for type "bind": bind source path does not exist: /does/not/exist',
  })
  const escape = { Type: 'volume', Source: '../x', Target: '/x' } as const
  await t.throwsAsync(specMounts([escape], place), { message: /invalid volume name/ })
})

function names(capabilities: readonly string[], architecture = 'x64'): ReadonlySet<string> {
  return new Set(seccompFilter(capabilities, architecture)?.syscalls[0]?.names)
}

test('the system call filter allows ordinary calls and widens only with capabilities', (t) => {
  const plain = names(DEFAULT_CAPABILITIES)
  for (const name of ['read', 'openat', 'futex', 'epoll_wait', 'chroot', 'arch_prctl']) {
    t.true(plain.has(name), name)
  }
  for (const name of ['mount', 'bpf', 'init_module', 'kexec_load', 'keyctl', 'reboot', 'unshare']) {
    t.false(plain.has(name), name)
  }
  t.true(names([...DEFAULT_CAPABILITIES, 'CAP_SYS_ADMIN']).has('mount'))
  t.false(names([]).has('chroot'))
  t.true(names([], 'arm64').has('cacheflush'))
  t.is(seccompFilter([], 'vax'), undefined)
})

test('without CAP_SYS_ADMIN clone makes no namespaces and clone3 says it does not exist', (t) => {
  const rules = seccompFilter(DEFAULT_CAPABILITIES, 'x64')?.syscalls ?? []
  const clone = rules.find((rule) => rule.names.includes('clone'))
  t.is(clone?.args?.[0]?.op, 'SCMP_CMP_MASKED_EQ')
  const clone3 = rules.find((rule) => rule.names.includes('clone3'))
  t.is(clone3?.errnoRet, 38)
  const mighty = seccompFilter(['CAP_SYS_ADMIN'], 'x64')?.syscalls[0]
  t.true(mighty?.names.includes('clone3'))
})

test("resolv.conf has the node's resolver, and what the spec says of search and options", async (t) => {
  const dataDirectory = await mkdtemp(join(tmpdir(), 'skein-rules-'))
  t.teardown(() => rm(dataDirectory, { recursive: true }))
  const place = { dataDirectory, rootfs: '/' }
  const DNSConfig = {
    Nameservers: ['192.0.2.9'],
    Search: ['corp.example', 'example'],
    Options: ['ndots:2'],
  }
  const text = async (plan: TaskPlan): Promise<string> => {
    await writeContainerFiles(plan)
    return await readFile(join(plan.directory, 'resolv.conf'), 'utf8')
  }
  const networking = {
    cidr: '10.0.0.2/24',
    gateway: '10.0.0.1',
    bridge: 'sk0',
    nameservers: ['10.0.0.1'],
  }
  const plan = await testPlan(place, { container: { DNSConfig }, networking })
  t.is(
    await text(plan),
    'nameserver 10.0.0.1\nsearch corp.example example\noptions ndots:2\n',
    'the resolver asks the servers of the spec itself',
  )
  const networks = [{ networkId: 'host', aliases: [] }]
  const onHost = await text({ ...plan, task: { ...plan.task, networks } })
  t.regex(onHost, /^nameserver 192.0.2.9$/m)
  t.is(onHost.match(/^nameserver/gm)?.length, 1, "in place of the host's")
  t.is(onHost.match(/^search/gm)?.length, 1)
})
