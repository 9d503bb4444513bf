/** Settings of the host: changed, recorded, put back. In network namespaces of the tests' own. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'

import { HostSettings, memoryRecord } from '../network/host-settings.ts'
import type { HostRecordStore } from '../network/host-settings.ts'
import { kernelTest } from '../network/netlink/testing/sandbox.ts'
import type { Sandbox } from '../network/netlink/testing/sandbox.ts'
import { nativeSettings } from '../network/setting-access.ts'
import { hostRecordFile } from './host-record.ts'

const FORWARD = 'net/ipv4/ip_forward'
const FORWARD6 = 'net/ipv6/conf/all/forwarding'

/** All settings of the namespace, but counters. */
function sysctls(sandbox: Sandbox): string[] {
  const lines = sandbox.run('sysctl -a -r "^net\\." 2>/dev/null').trim().split('\n')
  return lines.filter((line) => !/nf_conntrack_count|^net\.core\./.test(line))
}

function settingsOf({ native, netns }: Sandbox, store?: HostRecordStore): HostSettings {
  return new HostSettings(nativeSettings(native, netns), store)
}

function file(t: ExecutionContext): HostRecordStore {
  const directory = mkdtempSync(join(tmpdir(), 'skein-record-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  return hostRecordFile(directory)
}

/** Three devices; one of them forwards on its own account, and redirects are refused. */
function makeHost(sandbox: Sandbox): void {
  for (const name of ['d0', 'd1', 'd2']) sandbox.run(`ip link add ${name} type bridge`)
  sandbox.run(`cd /proc/sys/net; echo 0 >ipv4/ip_forward; echo 0 >ipv6/conf/all/forwarding
    echo 1 >ipv4/conf/d1/forwarding; echo 1 >ipv6/conf/d2/forwarding
    echo 0 >ipv4/conf/all/accept_redirects`)
}

kernelTest('settings go back, and those that changed along with them', async (t, sandbox) => {
  makeHost(sandbox)
  const before = sysctls(sandbox)
  const settings = settingsOf(sandbox, file(t))
  t.true(await settings.set(FORWARD, '1'))
  t.true(await settings.set('net/ipv6/conf/d0/accept_ra', '2'))
  t.true(await settings.set(FORWARD6, '1'))
  t.false(await settings.set(FORWARD, '1'), 'it is so')
  t.false(await settings.set('net/ipv4/vs/nothing', '1'), 'there is no such setting')
  t.is(await settings.read('net/ipv4/conf/d0/forwarding'), '1')
  t.notDeepEqual(sysctls(sandbox), before)
  await settings.restore()
  t.deepEqual(sysctls(sandbox), before)
  await settings.restore()
  t.deepEqual(sysctls(sandbox), before)
})

kernelTest('a new process puts back what an earlier one changed', async (t, sandbox) => {
  makeHost(sandbox)
  const before = sysctls(sandbox)
  const store = file(t)
  await settingsOf(sandbox, store).claim('node0001')
  await settingsOf(sandbox, store).set(FORWARD, '1')
  const after = settingsOf(sandbox, store)
  t.is(await after.claimant(), 'node0001')
  t.true(await after.hasChanged(FORWARD))
  t.false(await after.set(FORWARD, '1'))
  await after.restore()
  t.deepEqual(sysctls(sandbox), before)
  t.is(await after.claimant(), undefined)
})

kernelTest('a crash after the record and before the change is harmless', async (t, sandbox) => {
  makeHost(sandbox)
  const before = sysctls(sandbox)
  const store = file(t)
  const access = nativeSettings(sandbox.native, sandbox.netns)
  const crash = (): Promise<void> => Promise.reject(new Error('crash'))
  const dying = new HostSettings({ ...access, write: crash }, store)
  await t.throwsAsync(dying.set(FORWARD, '1'), { message: 'crash' })
  await settingsOf(sandbox, store).restore()
  t.deepEqual(sysctls(sandbox), before)
})

kernelTest('what somebody else set meanwhile stays', async (t, sandbox) => {
  makeHost(sandbox)
  const settings = settingsOf(sandbox)
  await settings.set('net/ipv4/conf/d0/accept_source_route', '1')
  await settings.set(FORWARD, '1')
  sandbox.run('echo 0 >/proc/sys/net/ipv4/conf/d0/accept_source_route')
  sandbox.run(
    'echo 0 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv4/conf/d2/forwarding',
  )
  const changed = sysctls(sandbox)
  t.true(await settings.set(FORWARD, '1'), 'he is overruled')
  await settings.restore()
  t.deepEqual(sysctls(sandbox), changed)
})

kernelTest('a record of another boot says nothing about this one', async (t, sandbox) => {
  makeHost(sandbox)
  const store = memoryRecord()
  const access = nativeSettings(sandbox.native, sandbox.netns)
  const yesterday = { ...access, kernel: () => Promise.resolve('another boot') }
  await new HostSettings(yesterday, store).set(FORWARD, '1')
  const settings = settingsOf(sandbox, store)
  t.false(await settings.hasChanged(FORWARD))
  await settings.restore()
  t.is(await settings.read(FORWARD), '1')
})
