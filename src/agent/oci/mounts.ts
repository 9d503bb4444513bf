/**
 * What is mounted inside a container: the kernel's filesystems, our small files, the spec's mounts.
 */
import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { isAbsolute, join, normalize } from 'node:path'
import { SwarmError } from '../../base/errors.ts'
import type { MountSpec } from '../../store/spec.ts'
import type { CgroupFacts } from './resources.ts'

/** One mount in the OCI form. */
export interface OciMount {
  readonly destination: string
  readonly type: string
  readonly source: string
  readonly options: readonly string[]
}

/** Named volumes live under this directory of the node; shared by all its tasks. */
export interface VolumePlace {
  readonly volumesDirectory: string
}

const VOLUME_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$/
const PROPAGATIONS: ReadonlySet<string> = new Set([
  'private',
  'rprivate',
  'shared',
  'rshared',
  'slave',
  'rslave',
])
/** Bits of a tmpfs mode: permissions and sticky. */
const TMPFS_MODE_DEFAULT = 0o1777

/** The filesystems that every container has. */
export function systemMounts(facts: CgroupFacts): OciMount[] {
  const guarded = ['nosuid', 'noexec', 'nodev']
  const cgroup: OciMount[] =
    facts.mode === 'none' || facts.mode === 'hybrid'
      ? []
      : [
          {
            destination: '/sys/fs/cgroup',
            type: 'cgroup',
            source: 'cgroup',
            options: [...guarded, 'ro'],
          },
        ]
  return [
    { destination: '/proc', type: 'proc', source: 'proc', options: guarded },
    {
      destination: '/dev',
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
    },
    {
      destination: '/dev/pts',
      type: 'devpts',
      source: 'devpts',
      options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
    },
    {
      destination: '/dev/shm',
      type: 'tmpfs',
      source: 'shm',
      options: [...guarded, 'mode=1777', 'size=65536k'],
    },
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: guarded },
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: [...guarded, 'ro'] },
    ...cgroup,
  ]
}

/**
 * Translates the spec's mounts, in order of depth. Makes volume directories. @throws
 * INVALID_ARGUMENT
 */
export async function specMounts(
  mounts: readonly MountSpec[],
  place: VolumePlace,
): Promise<OciMount[]> {
  const translated: OciMount[] = []
  for (const mount of mounts) translated.push(await specMount(mount, place))
  return translated.toSorted((a, b) => depth(a.destination) - depth(b.destination))
}

async function specMount(mount: MountSpec, place: VolumePlace): Promise<OciMount> {
  const destination = normalize(mount.Target)
  if (!isAbsolute(destination) || destination === '/') {
    throw invalidMount(mount, `invalid mount target "${mount.Target}"`)
  }
  switch (mount.Type) {
    case 'bind':
      return bindMount(mount, destination, await bindSource(mount))
    case 'volume':
      return bindMount(mount, destination, await volumeSource(mount, place))
    case 'tmpfs':
      return tmpfsMount(mount, destination)
    case 'npipe':
    case 'cluster':
      throw invalidMount(mount, 'mount type is not supported on Linux nodes of Skein')
    default:
      return mount.Type satisfies never
  }
}

function bindMount(mount: MountSpec, destination: string, source: string): OciMount {
  const propagation = mount.BindOptions?.Propagation ?? 'rprivate'
  if (!PROPAGATIONS.has(propagation)) {
    throw invalidMount(mount, `invalid propagation "${propagation}"`)
  }
  const access = mount.ReadOnly === true ? 'ro' : 'rw'
  return { destination, type: 'bind', source, options: ['rbind', access, propagation] }
}

async function bindSource(mount: MountSpec): Promise<string> {
  const source = mount.Source ?? ''
  if (!isAbsolute(source)) throw invalidMount(mount, 'mount path must be absolute')
  if (existsSync(source)) return source
  if (mount.BindOptions?.CreateMountpoint !== true) {
    throw invalidMount(mount, `bind source path does not exist: ${source}`)
  }
  await mkdir(source, { recursive: true })
  return source
}

async function volumeSource(mount: MountSpec, place: VolumePlace): Promise<string> {
  const name = mount.Source ?? ''
  if (!VOLUME_NAME.test(name)) throw invalidMount(mount, `invalid volume name "${name}"`)
  const directory = join(place.volumesDirectory, name)
  await mkdir(directory, { recursive: true, mode: 0o755 })
  return directory
}

function tmpfsMount(mount: MountSpec, destination: string): OciMount {
  const size = mount.TmpfsOptions?.SizeBytes ?? 0
  const mode = mount.TmpfsOptions?.Mode ?? TMPFS_MODE_DEFAULT
  const options = ['nosuid', 'nodev', 'noexec', `mode=${mode.toString(8)}`]
  if (size > 0) options.push(`size=${size}`)
  if (mount.ReadOnly === true) options.push('ro')
  return { destination, type: 'tmpfs', source: 'tmpfs', options }
}

function depth(path: string): number {
  return path.split('/').length
}

function invalidMount(mount: MountSpec, reason: string): SwarmError {
  const message = `invalid mount config for type "${mount.Type}": ${reason}`
  return new SwarmError('INVALID_ARGUMENT', message)
}
