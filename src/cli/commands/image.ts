/** `skein image load | ls | rm` */
import { createReadStream } from 'node:fs'
import type { Readable } from 'node:stream'
import { CommandError, FILTER_FLAG, FORMAT_FLAG, NO_TRUNC_FLAG, QUIET_FLAG } from '../command.ts'
import type { Command } from '../command.ts'
import { filtersOf } from '../filters.ts'
import { agoText, shortId, sizeText } from '../human.ts'
import { SwarmApi, filterQuery } from '../swarm-api.ts'
import type { ImageJson } from '../swarm-api.ts'
import { printRows } from '../table.ts'
import type { Row } from '../table.ts'
import { forEach } from './each.ts'

/** `image load` */
export const load: Command = {
  usage: '[OPTIONS]',
  short: 'Load an image from a tar archive or STDIN',
  minimum: 0,
  maximum: 0,
  flags: [
    { name: 'input', short: 'i', kind: 'string', help: 'Read from tar archive file' },
    { name: 'quiet', short: 'q', kind: 'boolean', help: 'Suppress the load output' },
  ],
  async run({ client, console }, given) {
    const source = await archive(given.text('input'))
    for await (const line of client.upload('/images/load', source, { query: { quiet: '1' } })) {
      if (typeof line !== 'object' || line === null) continue
      if ('error' in line) throw new CommandError(String(line.error))
      if ('stream' in line) console.write(String(line.stream))
    }
    return 0
  },
}

/** `image ls` */
export const list: Command = {
  usage: '[OPTIONS] [REPOSITORY[:TAG]]',
  short: 'List images',
  minimum: 0,
  maximum: 1,
  flags: [
    FILTER_FLAG,
    FORMAT_FLAG,
    NO_TRUNC_FLAG,
    { ...QUIET_FLAG, help: 'Only show image IDs' },
    { name: 'digests', kind: 'boolean', help: 'Show digests' },
  ],
  async run(context, given) {
    const filters = { ...filtersOf(given) }
    const [reference] = given.positionals
    if (reference !== undefined) filters['reference'] = [reference]
    const images = await new SwarmApi(context.client).images(filterQuery(filters))
    const whole = given.flag('no-trunc')
    const nowMs = context.now()
    printRows(
      context,
      images.flatMap((image) => imageRows(image, { whole, nowMs })),
      {
        given,
        identifier: 'ID',
        columns: [
          ['REPOSITORY', 'Repository'],
          ['TAG', 'Tag'],
          ...(given.flag('digests') ? ([['DIGEST', 'Digest']] as const) : []),
          ['IMAGE ID', 'ID'],
          ['CREATED', 'CreatedSince'],
          ['SIZE', 'Size'],
        ],
      },
    )
    return 0
  },
}

/** `image rm` */
export const remove: Command = {
  usage: '[OPTIONS] IMAGE [IMAGE...]',
  short: 'Remove one or more images',
  minimum: 1,
  flags: [{ name: 'force', short: 'f', kind: 'boolean', help: 'Force removal of the image' }],
  run(context, given) {
    const api = new SwarmApi(context.client)
    const query = given.flag('force') ? { force: '1' } : {}
    return forEach(context, given.positionals, async (reference) => {
      const removed = await api.removeImage(reference, query)
      return removed
        .map((one) =>
          one.Untagged === undefined ? `Deleted: ${one.Deleted}` : `Untagged: ${one.Untagged}`,
        )
        .join('\n')
    })
  },
}

/** @throws CommandError when the file is not there, or a terminal would have to be the archive */
async function archive(path: string | undefined): Promise<Readable> {
  if (path === undefined || path === '-') {
    if (process.stdin.isTTY) throw new CommandError('requested load from stdin, but stdin is empty')
    return process.stdin
  }
  const stream = createReadStream(path)
  await new Promise<void>((resolve, reject) => {
    stream.once('open', () => resolve())
    stream.once('error', (error) => reject(new CommandError(openError(path, error))))
  })
  return stream
}

/** A row for each tag of an image. */
function imageRows(
  image: ImageJson,
  show: { readonly whole: boolean; readonly nowMs: number },
): Row[] {
  const tags = image.RepoTags.length === 0 ? ['<none>:<none>'] : image.RepoTags
  return tags.map((reference) => {
    const separator = reference.lastIndexOf(':')
    const repository = reference.slice(0, separator)
    const digest = image.RepoDigests.find((one) => one.startsWith(`${repository}@`))
    return {
      Containers: 'N/A',
      CreatedAt: `${createdText(image)} +0000 UTC`,
      CreatedSince: agoText(image.Created * 1000, show.nowMs),
      Digest: digest?.split('@')[1] ?? '<none>',
      ID: show.whole ? image.Id : shortId(image.Id),
      Repository: repository,
      SharedSize: 'N/A',
      Size: sizeText(image.Size),
      Tag: reference.slice(separator + 1),
      UniqueSize: 'N/A',
    }
  })
}

function createdText(image: ImageJson): string {
  return new Date(image.Created * 1000).toISOString().slice(0, 19).replace('T', ' ')
}

/** In the words of docker: `open web.tar: no such file or directory`. */
function openError(path: string, error: NodeJS.ErrnoException): string {
  return error.code === 'ENOENT' ? `open ${path}: no such file or directory` : error.message
}
