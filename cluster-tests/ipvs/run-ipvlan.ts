/**
 * Guest program: two hosts on one switch, a task on each by an ipvlan over its uplink. Says what the
 * one hears of the other, and what device it has. Not every kernel has ipvlan; the guest's has.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeSync } from 'node:fs'
import { loadNative } from '../../src/network/netlink/native.ts'
import { TaskLinks } from '../../src/network/plane/task-links.ts'

const DIRECTORY = '/tmp/ipvlan-tasks'

const load = loadNative()
if (load.type === 'absent') throw new Error(load.reason)
const { native } = load

function run(command: string): string {
  return execFileSync('sh', ['-ec', command], { encoding: 'utf8' })
}

async function taskOn(host: number): Promise<string> {
  run(`ip netns add h${host}
    ip link add p${host} up master sw type veth peer name eth0 netns h${host}
    ip -n h${host} link set eth0 up
    ip -n h${host} link add tb0 type bridge`)
  await using links = await TaskLinks.open(native, {
    netns: `/run/netns/h${host}`,
    directory: DIRECTORY,
  })
  const cidr = `192.168.72.${host}/24`
  return await links.attach(`task${host}`, {
    cidr: `10.0.${host}.2/24`,
    gateway: `10.0.${host}.1`,
    bridge: 'tb0',
    extras: [{ kind: 'ipvlan', parent: 'eth0', mode: 'l2', mtu: 1_300, cidr }],
  })
}

mkdirSync(DIRECTORY)
run('mkdir -p /run/netns; ip link add sw up type bridge')
const first = await taskOn(1)
await taskOn(2)
const inside = `nsenter --net=${first}`
const command = `${inside} busybox ping -c 3 -W 5 192.168.72.2; ${inside} ip -d link show eth1`
writeSync(1, run(command))
