/**
 * The small shell script that turns the monitor's child into the task: mounts (in a mount namespace
 * of its own), then one `exec` after another, so that the pid never changes. Generated with every
 * value quoted, readable by its owner only: environments hold secrets, and arguments show in `ps`.
 */
import type { OciMount } from '../oci/mounts.ts'

/** How much of a container can be had without a runtime. */
export type ProcessMode =
  /** Own root by overlay and chroot in a mount namespace; as root. */
  | 'chroot'
  /** The same in a user namespace, where the user is root. */
  | 'user-chroot'
  /** The host's own files; nothing is separated. */
  | 'host'

/** What the script must do. */
export interface LaunchRequest {
  readonly mode: ProcessMode
  /** Absolute. */
  readonly directory: string
  /** Overlay's lower directories, topmost first, relative to `directory`. */
  readonly lower: readonly string[]
  readonly mounts: readonly OciMount[]
  readonly argv: readonly string[]
  readonly env: readonly string[]
  readonly cwd: string
  /** Undefined: stays who we are. */
  readonly user?: { readonly uid: number; readonly gid: number }
}

/** Prefix of the command that runs the script: a session of its own, and namespaces by mode. */
export function launchPrefix(mode: ProcessMode): readonly string[] {
  switch (mode) {
    case 'chroot':
      return ['setsid', 'unshare', '--mount', '--propagation', 'private', 'sh']
    case 'user-chroot':
      return ['setsid', 'unshare', '--map-root-user', '--mount', 'sh']
    case 'host':
      return ['setsid', 'sh']
    default:
      return mode satisfies never
  }
}

/** Makes the script. */
export function launchScript(request: LaunchRequest): string {
  const { mode, directory } = request
  const rooted = mode !== 'host'
  const lines = [
    '#!/bin/sh',
    'set -e',
    'umask 022',
    `cd ${quote(directory)}`,
    ...(rooted ? rootLines(request) : []),
    'echo $$ >pid.tmp',
    'mv pid.tmp pid',
    ...(rooted ? [] : [`cd ${quote(request.cwd)}`]),
    `exec env -i ${request.env.map(quote).join(' ')} ${finalCommand(request)}`,
  ]
  return `${lines.join('\n')}\n`
}

function rootLines(request: LaunchRequest): string[] {
  const extra = request.mode === 'user-chroot' ? ',userxattr' : ''
  const options = `lowerdir=${request.lower.join(':')},upperdir=upper,workdir=work${extra}`
  const host = ['/proc', '/sys', '/dev'].flatMap((path) => [
    `mkdir -p ${quote(`rootfs${path}`)}`,
    `mount --rbind ${path} ${quote(`rootfs${path}`)}`,
  ])
  return [
    `mount -t overlay overlay -o ${quote(options)} rootfs`,
    ...host,
    'names=/etc/resolv.conf',
    'if [ -e rootfs$names ]; then mount --bind $names rootfs$names; fi',
    ...request.mounts.flatMap(mountLines),
  ]
}

function mountLines(mount: OciMount): string[] {
  const target = quote(`rootfs${mount.destination}`)
  const source = quote(mount.source)
  if (mount.type === 'tmpfs') {
    const options = quote(mount.options.join(','))
    return [`mkdir -p ${target}`, `mount -t tmpfs -o ${options} tmpfs ${target}`]
  }
  return [
    `if [ -d ${source} ]; then mkdir -p ${target}`,
    `else mkdir -p "$(dirname ${target})"; : >>${target}; fi`,
    `mount --rbind ${source} ${target}`,
    ...(mount.options.includes('ro') ? [`mount -o remount,bind,ro ${target}`] : []),
  ]
}

function finalCommand(request: LaunchRequest): string {
  const argv = request.argv.map(quote).join(' ')
  const { user } = request
  const identity = user === undefined ? '' : `--setgid=${user.gid} --setuid=${user.uid} `
  if (request.mode !== 'host') {
    const root = `--root=rootfs --wd=${quote(request.cwd)}`
    return `"$(command -v unshare)" ${root} ${identity}-- ${argv}`
  }
  return identity === '' ? argv : `"$(command -v unshare)" ${identity}-- ${argv}`
}

/** One word for the shell, whatever is in it. */
export function quote(word: string): string {
  return `'${word.replaceAll("'", String.raw`'\''`)}'`
}
