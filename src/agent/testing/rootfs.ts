/** A small real root file system for tests: static busybox and its applets. */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, copyFile, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Images, ReadyImage } from '../../image/ports.ts'
import { SwarmError } from '../../base/errors.ts'

const BUSYBOX = '/bin/busybox'

/** Why tests that need a root file system cannot run here; undefined when they can. */
export function rootfsRefusal(): string | undefined {
  if (!existsSync(BUSYBOX)) return 'busybox-static is not installed'
  const kind = execFileSync('sh', ['-c', `ldd ${BUSYBOX} 2>&1 || true`], { encoding: 'utf8' })
  return /not a dynamic|statically/.test(kind) ? undefined : 'busybox is not static'
}

/** Makes the root in `directory`. */
export async function makeRootfs(directory: string): Promise<void> {
  for (const name of ['bin', 'dev', 'etc', 'proc', 'sys', 'tmp', 'root', 'var']) {
    await mkdir(join(directory, name), { recursive: true })
  }
  await copyFile(BUSYBOX, join(directory, 'bin/busybox'))
  await chmod(join(directory, 'bin/busybox'), 0o755)
  const applets = execFileSync(BUSYBOX, ['--list'], { encoding: 'utf8' }).trim().split('\n')
  for (const applet of applets) {
    if (applet !== 'busybox') await symlink('busybox', join(directory, 'bin', applet))
  }
  await chmod(join(directory, 'tmp'), 0o1777)
  await writeFile(
    join(directory, 'etc/passwd'),
    'root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:web:/home/web:/bin/sh\n',
  )
  await writeFile(join(directory, 'etc/group'), 'root:x:0:\nweb:x:1001:\nextra:x:1005:web\n')
}

/** The image that `rootfs` stands for. */
export function imageOf(rootfs: string, config: Partial<ReadyImage['config']> = {}): ReadyImage {
  return {
    digest: `sha256:${'0'.repeat(64)}`,
    layerDirectories: [rootfs],
    config: {
      entrypoint: [],
      command: ['sh'],
      env: ['PATH=/bin', 'FROM_IMAGE=yes'],
      workingDirectory: '/',
      user: '',
      labels: {},
      volumes: [],
      exposedPorts: [],
      ...config,
    },
  }
}

function unused(): never {
  throw new SwarmError('UNIMPLEMENTED', 'images of a test: not used by the agent')
}

/** Images with one image under the name `busybox:1`; everything else is not found. */
export function oneImage(image: ReadyImage): Images {
  return {
    ensure: (reference) =>
      reference === 'busybox:1'
        ? Promise.resolve(image)
        : Promise.reject(new SwarmError('NOT_FOUND', `No such image: ${reference}`)),
    find: unused,
    resolve: unused,
    list: unused,
    load: unused,
    remove: unused,
  }
}
