/**
 * `/images*` and `/distribution/*`: what this node has, and what the swarm knows of a reference.
 */
import { SwarmError, isSwarmError } from '../../base/errors.ts'
import { isTerminal } from '../../store/objects.ts'
import { imageInspectJson, imageJson, repositoryOf } from '../docker/image.ts'
import { Filters } from '../filters.ts'
import { resolveImage } from '../image-pin.ts'
import type { ApiComponents } from '../ports.ts'
import { json, refusal } from '../reply.ts'
import type { Reply } from '../reply.ts'
import { flag, parameter } from '../request.ts'
import type { ApiRequest } from '../request.ts'
import { route } from '../router.ts'
import type { Route } from '../router.ts'
import type { ImageSummary } from '../../image/ports.ts'

const IMAGE_FILTERS = ['reference', 'dangling', 'label', 'before', 'since', 'until'] as const

const MANIFEST_MEDIA_TYPE = 'application/vnd.oci.image.manifest.v1+json'

/** Routes of images. */
export function imageRoutes(components: ApiComponents): readonly Route[] {
  return [
    route('GET', '/images/json', (request) => list(components, request)),
    route('POST', '/images/load', (request) => load(components, request)),
    route('GET', '/images/{name*}/json', (request) => inspect(components, request)),
    route('DELETE', '/images/{name*}', (request) => remove(components, request)),
    route('GET', '/distribution/{name*}/json', (request) => distribution(components, request)),
  ]
}

async function list(components: ApiComponents, request: ApiRequest): Promise<Reply> {
  const filters = Filters.parse(request.query, IMAGE_FILTERS)
  for (const key of ['before', 'since', 'until']) {
    if (filters.has(key)) throw new SwarmError('UNIMPLEMENTED', `images: filter ${key}`)
  }
  const images = await components.images.list()
  const newestFirst = images.toSorted((a, b) => b.createdAt.localeCompare(a.createdAt))
  return json(newestFirst.filter((image) => matches(image, filters)).map(imageJson))
}

function matches(image: ImageSummary, filters: Filters): boolean {
  const dangling = image.tags.length === 0
  return (
    filters.some('reference', (pattern) => image.tags.some((tag) => likeTag(tag, pattern))) &&
    filters.some('dangling', (value) => dangling === ['1', 'true'].includes(value)) &&
    filters.labels('label', image.labels)
  )
}

/** Docker's `reference` filter: a glob over the name with or without its tag. */
function likeTag(tag: string, pattern: string): boolean {
  const source = pattern
    .replaceAll(/[.+^$()|[\]{}\\]/g, String.raw`\$&`)
    .replaceAll('*', '[^/]*')
    .replaceAll('?', '[^/]')
  const expression = new RegExp(`^${source}$`)
  return expression.test(tag) || expression.test(repositoryOf(tag))
}

/**
 * The first line is awaited before the status is sent, so that a bad archive is a 400, not a 200.
 */
async function load(components: ApiComponents, request: ApiRequest): Promise<Reply> {
  const tar = request.body as AsyncIterable<Uint8Array>
  const lines = components.images.load(tar, { signal: request.signal })
  const iterator = lines[Symbol.asyncIterator]()
  const first = await iterator.next()
  return {
    type: 'stream',
    status: 200,
    contentType: 'application/json',
    chunks: loadLines(first, iterator),
  }
}

async function* loadLines(
  first: IteratorResult<string>,
  rest: AsyncIterator<string>,
): AsyncGenerator<string> {
  try {
    for (let next = first; next.done !== true; next = await rest.next()) {
      yield `${JSON.stringify({ stream: `${next.value}\n` })}\n`
    }
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    yield `${JSON.stringify({ errorDetail: { message }, error: message })}\n`
  }
}

async function inspect(components: ApiComponents, request: ApiRequest): Promise<Reply> {
  const name = parameter(request, 'name')
  const image = await components.images.find(name)
  if (image === undefined) throw new SwarmError('NOT_FOUND', `No such image: ${name}`)
  return json(imageInspectJson(image))
}

async function remove(components: ApiComponents, request: ApiRequest): Promise<Reply> {
  const name = parameter(request, 'name')
  if ((await components.images.find(name)) === undefined) {
    throw new SwarmError('NOT_FOUND', `No such image: ${name}`)
  }
  const removed = await removeImage(components, name, { force: flag(request, 'force') })
  if ('type' in removed) return removed
  return json([
    ...removed.untagged.map((tag) => ({ Untagged: tag })),
    ...removed.deleted.map((digest) => ({ Deleted: digest })),
  ])
}

/** Docker answers 409, not 400, for an image that is in use. */
async function removeImage(
  components: ApiComponents,
  name: string,
  options: { readonly force: boolean },
): Promise<Reply | Awaited<ReturnType<ApiComponents['images']['remove']>>> {
  try {
    return await components.images.remove(name, { ...options, inUse: imagesInUse(components) })
  } catch (error) {
    if (isSwarmError(error, 'FAILED_PRECONDITION')) return refusal(409, error.message)
    throw error
  }
}

/** References and digests of the images that this node's living tasks run. */
function imagesInUse(components: ApiComponents): ReadonlySet<string> {
  const context = components.context()
  const inUse = new Set<string>()
  for (const task of context?.store.find('tasks', 'nodeId', context.nodeId) ?? []) {
    if (isTerminal(task.status.state)) continue
    const reference = task.spec.ContainerSpec.Image
    inUse.add(reference)
    const [name, digest] = reference.split('@', 2)
    if (name !== undefined && name !== '') inUse.add(name)
    if (digest !== undefined) inUse.add(digest)
  }
  return inUse
}

async function distribution(components: ApiComponents, request: ApiRequest): Promise<Reply> {
  const name = parameter(request, 'name')
  const resolved = await resolveImage(components, name, request.signal)
  if (resolved === undefined) {
    throw new SwarmError('NOT_FOUND', `image ${name}: no node that can be reached has it`)
  }
  return json({
    Descriptor: { mediaType: MANIFEST_MEDIA_TYPE, digest: resolved.digest, size: 0 },
    Platforms: resolved.platforms.map(({ os, architecture }) => ({ architecture, os })),
  })
}
