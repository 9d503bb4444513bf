/**
 * `--mount type=bind,source=/a,target=/b,readonly`. Source: docker `opts.MountOpt`, in its
 * behaviour.
 */
import { isAbsolute } from 'node:path'
import type { MountSpec } from '../store/spec.ts'
import { CommandError, EXIT_WRONG_FLAG } from './command.ts'
import { parseBytes } from './quantity.ts'

/** Members of a mount that a field of the flag sets. */
type Field = (value: string, text: string) => Partial<MountSpec>

const FIELDS: Readonly<Record<string, Field>> = {
  type: (value, text) => {
    if (value === 'bind' || value === 'volume' || value === 'tmpfs') return { Type: value }
    throw wrong(text, `type "${value}" is none of bind, volume, tmpfs`)
  },
  source: (value) => ({ Source: value }),
  src: (value) => ({ Source: value }),
  target: (value) => ({ Target: value }),
  dst: (value) => ({ Target: value }),
  destination: (value) => ({ Target: value }),
  readonly: (value, text) => ({ ReadOnly: truth(value, text) }),
  ro: (value, text) => ({ ReadOnly: truth(value, text) }),
  'bind-propagation': (value) => ({ BindOptions: { Propagation: value } }),
  'tmpfs-size': (value, text) => {
    const size = parseBytes(value)
    if (Number.isNaN(size)) throw wrong(text, `tmpfs-size "${value}" is no size`)
    return { TmpfsOptions: { SizeBytes: size } }
  },
}

/** @throws CommandError */
export function parseMount(text: string): MountSpec {
  let mount: Partial<MountSpec> = {}
  for (const part of text.split(',')) {
    const [key = '', ...rest] = part.split('=')
    const field = FIELDS[key.trim().toLowerCase()]
    if (field === undefined) throw wrong(text, `unexpected key "${key}"`)
    mount = { ...mount, ...field(rest.length === 0 ? 'true' : rest.join('='), text) }
  }
  const { Type: type = 'volume', Target: target } = mount
  if (target === undefined) throw wrong(text, 'target is required')
  if (type === 'bind' && (mount.Source === undefined || !isAbsolute(mount.Source))) {
    throw wrong(text, 'a bind mount needs an absolute source path')
  }
  if (type === 'tmpfs' && mount.Source !== undefined) throw wrong(text, 'tmpfs has no source')
  return { ...mount, Type: type, Target: target }
}

function truth(value: string, text: string): boolean {
  if (['true', '1', ''].includes(value)) return true
  if (['false', '0'].includes(value)) return false
  throw wrong(text, `"${value}" is not true or false`)
}

function wrong(text: string, reason: string): CommandError {
  return new CommandError(`invalid argument "${text}" for "--mount" flag: ${reason}`, {
    exitCode: EXIT_WRONG_FLAG,
    showUsage: true,
  })
}
