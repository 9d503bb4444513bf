/**
 * The container's root: an overlay of the image's read-only layers and a private upper directory.
 * mount(2) takes one page of options. Lists that are longer, or paths with characters that
 * overlayfs gives a meaning (`:`, `,`, `\`), go through short links relative to the task directory.
 */
import { mkdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { TaskPlan } from '../ports.ts'
import { MOUNT_OPTIONS_BYTES_MAX } from '../syscalls.ts'
import type { Mounter } from '../syscalls.ts'

/** Mounts the root of `plan`; returns its path. */
export async function mountRoot(plan: TaskPlan, mounter: Mounter): Promise<string> {
  const target = join(plan.directory, 'rootfs')
  for (const name of ['rootfs', 'upper', 'work', 'empty']) {
    await mkdir(join(plan.directory, name), { mode: 0o755 })
  }
  // overlayfs wants the topmost layer first, and at least one.
  const unpacked = plan.image.layerDirectories.toReversed()
  const layers = unpacked.length > 0 ? unpacked : [join(plan.directory, 'empty')]
  const options = overlayOptions(layers, plan.directory)
  if (Buffer.byteLength(options) <= MOUNT_OPTIONS_BYTES_MAX && isPlain(layers, plan.directory)) {
    await mounter.mount({ source: 'overlay', target, type: 'overlay', options })
    return target
  }
  await mkdir(join(plan.directory, 'l'))
  const links = await Promise.all(
    layers.map(async (layer, index) => {
      const link = join('l', index.toString(36))
      await symlink(layer, join(plan.directory, link))
      return link
    }),
  )
  const relative = `lowerdir=${links.join(':')},upperdir=upper,workdir=work`
  const request = { source: 'overlay', target: 'rootfs', type: 'overlay', options: relative }
  await mounter.mount({ ...request, cwd: plan.directory })
  return target
}

function overlayOptions(layers: readonly string[], directory: string): string {
  const upper = join(directory, 'upper')
  return `lowerdir=${layers.join(':')},upperdir=${upper},workdir=${join(directory, 'work')}`
}

function isPlain(layers: readonly string[], directory: string): boolean {
  return [...layers, directory].every((path) => !/[:,\\]/.test(path))
}
