/**
 * What a task runs and in which environment: the image's defaults under the spec's words. Docker's
 * rules:
 * `Command` replaces the image's entry point and drops its arguments, `Args` replaces the
 * arguments.
 */
import { SwarmError } from '../base/errors.ts'
import type { ReadyImage } from '../image/ports.ts'
import type { ContainerSpec } from '../store/spec.ts'

/** Where programs are looked for when neither image nor spec names a PATH. */
export const CONTAINER_PATH_DEFAULT = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** The argument vector. @throws INVALID_ARGUMENT when neither image nor spec names a command */
export function commandLine(image: ReadyImage['config'], spec: ContainerSpec): readonly string[] {
  const command = spec.Command ?? []
  const args = spec.Args ?? []
  const argv =
    command.length > 0
      ? [...command, ...args]
      : [...image.entrypoint, ...(args.length > 0 ? args : image.command)]
  if (argv.length === 0 || argv[0] === '') {
    throw new SwarmError('INVALID_ARGUMENT', 'no command specified')
  }
  return argv
}

/**
 * `name=value` lists merged, later ones winning; a bare `name` removes the variable, as in Docker.
 */
export function mergeEnvironment(...lists: readonly (readonly string[])[]): string[] {
  const merged = new Map<string, string>()
  for (const entry of lists.flat()) {
    const separator = entry.indexOf('=')
    const name = separator < 0 ? entry : entry.slice(0, separator)
    if (separator < 0) merged.delete(name)
    else merged.set(name, entry.slice(separator + 1))
  }
  return [...merged].map(([name, value]) => `${name}=${value}`)
}
