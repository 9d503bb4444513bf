/**
 * Pins a service's image to the digest that its tag means now, so that all replicas run the same
 * bytes wherever and whenever they start. The docker CLI does this itself (it asks
 * `/distribution`); what arrives unpinned is pinned here. An image that nobody has yet is no
 * refusal: its tasks wait for it. Source: moby `daemon/cluster/services.go`; recorded exchanges
 * 250, 253.
 */
import { SwarmError, errorText, isSwarmError } from '../base/errors.ts'
import type { Images } from '../image/ports.ts'
import type { ServiceSpec } from '../store/spec.ts'
import type { ApiComponents } from './ports.ts'

/** How long the swarm may be asked for an image, in milliseconds; then it counts as unknown. */
export const IMAGE_RESOLVE_MS_MAX = 5000

/** An image's whole id: it means the same bytes for ever. */
const IMAGE_ID = /^(sha256:)?[0-9a-f]{64}$/

/** What `pinImage` made of a spec. */
export interface PinnedSpec {
  readonly spec: ServiceSpec
  readonly warnings: readonly string[]
}

/** The spec with its image pinned, if that image is known. @throws ABORTED */
export async function pinImage(
  components: ApiComponents,
  spec: ServiceSpec,
  signal: AbortSignal,
): Promise<PinnedSpec> {
  const template = spec.TaskTemplate
  const image = template.ContainerSpec.Image
  if (image === '' || image.includes('@') || IMAGE_ID.test(image)) return { spec, warnings: [] }
  const resolved = await resolveImage(components, image, signal)
  if (resolved === undefined) return { spec, warnings: [unknownImageWarning(image)] }
  const platforms = resolved.platforms.map(({ os, architecture }) => ({
    Architecture: architecture,
    OS: os,
  }))
  const placement = template.Placement ?? {}
  const pinned: ServiceSpec = {
    ...spec,
    TaskTemplate: {
      ...template,
      ContainerSpec: { ...template.ContainerSpec, Image: `${image}@${resolved.digest}` },
      Placement:
        placement.Platforms === undefined && platforms.length > 0
          ? { ...placement, Platforms: platforms }
          : placement,
    },
  }
  return { spec: pinned, warnings: [] }
}

/**
 * Asks the swarm for a reference, for a bounded time. Undefined: nobody who can be reached has it.
 */
export async function resolveImage(
  components: ApiComponents,
  reference: string,
  signal: AbortSignal,
): Promise<Awaited<ReturnType<Images['resolve']>>> {
  const limit = new AbortController()
  const timer = components.clock.after(IMAGE_RESOLVE_MS_MAX, () => {
    limit.abort(new SwarmError('TIMED_OUT', `image ${reference}: no answer`))
  })
  try {
    return await components.images.resolve(reference, {
      signal: AbortSignal.any([signal, limit.signal]),
    })
  } catch (error) {
    if (signal.aborted || !isUnknown(error)) throw error
    components.log.debug({ image: reference, err: errorText(error) }, 'image not resolved')
    return undefined
  } finally {
    timer.cancel()
  }
}

function isUnknown(error: unknown): boolean {
  return (
    isSwarmError(error, 'NOT_FOUND') ||
    isSwarmError(error, 'UNAVAILABLE') ||
    isSwarmError(error, 'TIMED_OUT')
  )
}

function unknownImageWarning(image: string): string {
  return (
    `image ${image} is on no node that can be reached, so its digest is not recorded. ` +
    'Its tasks are tried again until a node has it; nodes may then run different versions of it.'
  )
}
