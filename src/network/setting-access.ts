/**
 * How settings of a network namespace are read and written: files below `/proc/sys`, and the idle
 * times of IPVS, which are no file, as the setting `ipvs/timeouts` (`900 120 300`: TCP, TCP after
 * FIN, UDP, seconds). Without the addon: this process's own namespace, and no IPVS.
 */
import { statSync } from 'node:fs'
import { readFile, readdir, writeFile } from 'node:fs/promises'
import { errorText } from '../base/errors.ts'
import { resolveFamily } from './netlink/generic.ts'
import { IPVS_FAMILY } from './netlink/ipvs-layout.ts'
import { decodeTimeouts } from './netlink/ipvs-reply.ts'
import { getTimeouts, setTimeouts } from './netlink/ipvs.ts'
import { decodeLink } from './netlink/link-reply.ts'
import { dumpLinks } from './netlink/link.ts'
import type { Native } from './netlink/native.ts'
import { NetlinkError, isNetlinkError } from './netlink/netlink-error.ts'
import { NetlinkSocket } from './netlink/socket.ts'
import { readSysctl, writeSysctl } from './netlink/sysctl.ts'

/** Settings of one network namespace by name. */
export interface SettingAccess {
  /** The value; undefined: there is no such setting. @throws NetlinkError */
  read(name: string): Promise<string | undefined>
  /** @throws NetlinkError */
  write(name: string, value: string): Promise<void>
  /** Names of the namespace's devices. @throws NetlinkError */
  devices(): Promise<readonly string[]>
  /** Names the boot and the namespace: another text, other settings. */
  kernel(): Promise<string>
}

/** Idle times of IPVS's connections. */
export const IPVS_TIMEOUTS_NAME = 'ipvs/timeouts'

const BOOT_ID = '/proc/sys/kernel/random/boot_id'

/** Through the addon, in any namespace. */
export function nativeSettings(native: Native, netns?: string): SettingAccess {
  const where = netns === undefined ? {} : { netns }
  return {
    read: (name) =>
      orUndefined(
        name === IPVS_TIMEOUTS_NAME
          ? withIpvs(native, netns, readTimeouts)
          : readSysctl(native, { name, ...where }),
      ),
    write: (name, value) =>
      name === IPVS_TIMEOUTS_NAME
        ? withIpvs(native, netns, (socket, family) => writeTimeouts(socket, family, value))
        : writeSysctl(native, { name, ...where }, value),
    async devices() {
      await using socket = await NetlinkSocket.open(native, { protocol: 'route', ...where })
      return (await socket.dump(dumpLinks())).map((message) => decodeLink(message).name)
    },
    kernel: () => kernelText(netns ?? '/proc/self/ns/net'),
  }
}

/** Through the file system, in this process's namespace. */
export function plainSettings(): SettingAccess {
  return {
    async read(name) {
      try {
        return (await readFile(path(name), 'utf8')).trimEnd()
      } catch (error) {
        return orUndefined(Promise.reject(asNetlinkError(error, `read sysctl "${name}"`)))
      }
    },
    async write(name, value) {
      try {
        await writeFile(path(name), value)
      } catch (error) {
        throw asNetlinkError(error, `write sysctl "${name}"`)
      }
    },
    async devices() {
      const all = await readdir(path('net/ipv4/conf'))
      return all.filter((name) => name !== 'all' && name !== 'default')
    },
    kernel: () => kernelText('/proc/self/ns/net'),
  }
}

function path(name: string): string {
  return `/proc/sys/${name}`
}

async function kernelText(netns: string): Promise<string> {
  return `${(await readFile(BOOT_ID, 'utf8')).trim()} ${statSync(netns).ino}`
}

async function orUndefined(value: Promise<string>): Promise<string | undefined> {
  try {
    return await value
  } catch (error) {
    if (isNetlinkError(error, 'ENOENT')) return undefined
    throw error
  }
}

function asNetlinkError(error: unknown, operation: string): unknown {
  if (!(error instanceof Error) || !('code' in error)) return error
  return new NetlinkError(String(error.code), operation, errorText(error), error)
}

async function withIpvs<T>(
  native: Native,
  netns: string | undefined,
  use: (socket: NetlinkSocket, family: number) => Promise<T>,
): Promise<T> {
  const place = netns === undefined ? {} : { netns }
  await using socket = await NetlinkSocket.open(native, { protocol: 'generic', ...place })
  const { id } = await resolveFamily(socket, IPVS_FAMILY)
  return await use(socket, id)
}

async function readTimeouts(socket: NetlinkSocket, family: number): Promise<string> {
  const [message] = await socket.request(getTimeouts(family))
  if (message === undefined) throw new NetlinkError('ENOENT', 'get timeouts')
  const { tcpSeconds, tcpFinSeconds, udpSeconds } = decodeTimeouts(message)
  return `${tcpSeconds} ${tcpFinSeconds} ${udpSeconds}`
}

async function writeTimeouts(socket: NetlinkSocket, family: number, value: string): Promise<void> {
  const [tcpSeconds = 0, tcpFinSeconds = 0, udpSeconds = 0] = value.split(' ').map(Number)
  await socket.request(setTimeouts(family, { tcpSeconds, tcpFinSeconds, udpSeconds }))
}
