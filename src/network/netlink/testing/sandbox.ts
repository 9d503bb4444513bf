/**
 * Tests against this machine's kernel, in network namespaces that are made for one test and removed
 * after it. Needs root and the built addon.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { decodeLink } from '../link-reply.ts'
import type { Link } from '../link-reply.ts'
import { getLink } from '../link.ts'
import { loadNative } from '../native.ts'
import type { Native } from '../native.ts'
import { NetlinkSocket } from '../socket.ts'
import type { Protocol } from '../socket.ts'

/** npm puts `node_modules/.bin` first, and there is another tool named `nft` in it. */
const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

const load = loadNative()
/** Tries what every test needs. */
function reasonToSkip(): string {
  if (load.type === 'absent') return load.reason
  try {
    execFileSync('unshare', ['--net', 'true'], { stdio: 'pipe', env: { PATH: SYSTEM_PATH } })
    return ''
  } catch {
    // Without the privilege, or without util-linux: nothing here can be tried.
    return 'may not make network namespaces; needs root'
  }
}

/** Why tests of the kernel cannot run here; empty where they can. */
export const missing = reasonToSkip()

/** Waits until `condition` holds; fails after a generous time. */
export async function eventually(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 20_000
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`never: ${what}`)
    await sleep(5)
  }
}

/** Namespaces of one test's own. */
export interface Sandbox {
  readonly native: Native
  /** Path of an empty namespace. */
  readonly netns: string
  /** Makes one more. */
  readonly anotherNetns: () => Promise<string>
  /** Output of a command inside the namespace. */
  readonly run: (command: string, netns?: string) => string
}

/** Declares a test in namespaces of its own; where that cannot be, skips it and says why. */
export function kernelTest(
  title: string,
  body: (t: ExecutionContext, sandbox: Sandbox) => Promise<void>,
): void {
  if (load.type === 'absent' || missing !== '') {
    test.skip(`${title} (${missing})`, (t) => t.pass())
    return
  }
  const { native } = load
  test(title, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'skein-netlink-'))
    const made: string[] = []
    const anotherNetns = async (): Promise<string> => {
      const path = join(folder, `ns${made.length}`)
      await native.createNetns(path)
      made.push(path)
      return path
    }
    try {
      const netns = await anotherNetns()
      const run = (command: string, where = netns): string =>
        execFileSync('nsenter', [`--net=${where}`, 'sh', '-c', command], {
          encoding: 'utf8',
          env: { PATH: SYSTEM_PATH },
        })
      await body(t, { native, netns, anotherNetns, run })
    } finally {
      for (const path of made) await native.removeNetns(path)
      rmSync(folder, { recursive: true })
    }
  })
}

/** A socket in the sandbox's namespace. */
export function openIn(
  { native, netns }: Sandbox,
  protocol: Protocol = 'route',
): Promise<NetlinkSocket> {
  return NetlinkSocket.open(native, { protocol, netns })
}

/** The device of this name. */
export async function linkOf(socket: NetlinkSocket, name: string): Promise<Link> {
  const [message] = await socket.request(getLink(name))
  if (message === undefined) throw new Error(`no answer about ${name}`)
  return decodeLink(message)
}
