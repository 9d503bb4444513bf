/**
 * Platforms and the choice of one manifest of an index.
 *
 * Invariants: an empty operating system never matches; `unknown/unknown` (attestations) is no
 * image. Source: containerd/platforms, `database.go` (normalisation) and `compare.go` (what a host
 * can run, best first).
 */

/** What an image is built for. */
export interface Platform {
  readonly os: string
  readonly architecture: string
  readonly variant?: string
}

/** A platform as documents spell it. */
export interface WrittenPlatform {
  readonly os: string
  readonly architecture: string
  readonly variant?: string | undefined
}

const ARCHITECTURES: Readonly<Record<string, string>> = {
  x86_64: 'amd64',
  'x86-64': 'amd64',
  x64: 'amd64',
  aarch64: 'arm64',
  armhf: 'arm',
  armel: 'arm',
  i386: '386',
  i486: '386',
  i586: '386',
  i686: '386',
  ia32: '386',
}

/** One spelling for each platform: `x86_64` → `amd64`, `aarch64` → `arm64`, `armhf` → `arm/v7`. */
export function normalisePlatform(platform: WrittenPlatform): Platform {
  const name = platform.architecture.toLowerCase()
  const architecture = ARCHITECTURES[name] ?? name
  const variant = normaliseVariant(name, architecture, platform.variant?.toLowerCase() ?? '')
  const os = platform.os.toLowerCase() === 'macos' ? 'darwin' : platform.os.toLowerCase()
  return { os, architecture, ...(variant !== '' && { variant }) }
}

function normaliseVariant(name: string, architecture: string, given: string): string {
  const variant = /^[0-9]/.test(given) ? `v${given}` : given
  if (name === 'armel') return variant === '' ? 'v6' : variant
  if (architecture === 'arm') return variant === '' ? 'v7' : variant
  if (architecture === 'arm64') return variant === '' ? 'v8' : variant
  if (architecture === 'amd64') return variant === 'v1' ? '' : variant
  return variant
}

/** Whether this describes an image at all (an attestation says `unknown/unknown`). */
export function isImagePlatform(platform: WrittenPlatform): boolean {
  return platform.os !== '' && platform.os !== 'unknown' && platform.architecture !== 'unknown'
}

/** The platform of this machine. `armVersion` is `process.config`'s, for 32-bit ARM. */
export function hostPlatform(): Platform {
  const variables: object = process.config.variables
  const version = 'arm_version' in variables ? variables.arm_version : undefined
  const variant = process.arch === 'arm' && typeof version === 'string' ? version : ''
  return normalisePlatform({
    os: process.platform,
    architecture: process.arch,
    ...(variant !== '' && { variant }),
  })
}

/** What `host` can run, best first. */
function runnable(host: Platform): readonly Platform[] {
  const { os, architecture } = host
  const arm = (newest: number): Platform[] =>
    [7, 6, 5]
      .filter((version) => version <= newest)
      .map((version) => ({ os, architecture: 'arm', variant: `v${version}` }))
  if (architecture === 'arm64') return [{ os, architecture, variant: 'v8' }, ...arm(7)]
  if (architecture === 'arm') return arm(Number(host.variant?.slice(1) ?? 7))
  return [{ os, architecture, ...(host.variant !== undefined && { variant: host.variant }) }]
}

/** The best of `candidates` for `host`, or undefined when it can run none. */
export function choosePlatform<T extends { readonly platform: WrittenPlatform }>(
  candidates: readonly T[],
  host: Platform,
): T | undefined {
  for (const wanted of runnable(host)) {
    const match = candidates.find(({ platform }) => {
      const offered = normalisePlatform(platform)
      return (
        offered.os === wanted.os &&
        offered.architecture === wanted.architecture &&
        (offered.variant ?? '') === (wanted.variant ?? '')
      )
    })
    if (match !== undefined) return match
  }
  return undefined
}

/** `linux/arm64/v8`, for messages. */
export function platformText(platform: Platform): string {
  const { os, architecture, variant } = platform
  return variant === undefined ? `${os}/${architecture}` : `${os}/${architecture}/${variant}`
}
