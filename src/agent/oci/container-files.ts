/**
 * The files that a container sees bind-mounted from its task directory: hosts, resolv.conf,
 * hostname.
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { DnsConfig } from '../../store/spec.ts'
import { readTextFile } from '../json-file.ts'
import type { TaskPlan } from '../ports.ts'
import { isOnHostNetwork } from '../task-plan.ts'
import type { OciMount } from './mounts.ts'

const LOCAL_HOSTS = `127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
`

/** Writes the files and gives their mounts. */
export async function writeContainerFiles(plan: TaskPlan): Promise<OciMount[]> {
  const contents = {
    hosts: hostsFile(plan),
    hostname: `${plan.hostname}\n`,
    'resolv.conf': await resolverFile(plan),
  }
  return Promise.all(
    Object.entries(contents).map(async ([name, content]) => {
      const source = join(plan.directory, name)
      await writeFile(source, content, { mode: 0o644 })
      const options = ['rbind', 'rprivate']
      return { destination: `/etc/${name}`, type: 'bind', source, options }
    }),
  )
}

/**
 * On the host's network the host's own file, which may name servers on loopback, but for what the
 * spec says. Elsewhere the resolver that the plan names, which asks the spec's servers itself.
 */
async function resolverFile(plan: TaskPlan): Promise<string> {
  const { Nameservers: servers = [], ...rest } = plan.task.spec.ContainerSpec.DNSConfig ?? {}
  const own = resolverLines({ ...rest, Nameservers: plan.networking?.nameservers ?? [] })
  if (!isOnHostNetwork(plan.task)) return own
  const host = (await readTextFile('/etc/resolv.conf')) ?? ''
  const kept = host.split('\n').filter((line) => {
    const isReplaced =
      (servers.length > 0 && /^\s*nameserver\s/.test(line)) ||
      (rest.Search !== undefined && /^\s*(search|domain)\s/.test(line))
    return !isReplaced && line !== ''
  })
  return kept.map((line) => `${line}\n`).join('') + resolverLines({ ...rest, Nameservers: servers })
}

function resolverLines(config: DnsConfig): string {
  const { Nameservers: servers = [], Search: search = [], Options: options = [] } = config
  return [
    ...servers.map((address) => `nameserver ${address}\n`),
    ...(search.length === 0 ? [] : [`search ${search.join(' ')}\n`]),
    ...(options.length === 0 ? [] : [`options ${options.join(' ')}\n`]),
  ].join('')
}

function hostsFile(plan: TaskPlan): string {
  const address = plan.networking?.cidr.split('/')[0]
  const own = address === undefined ? '' : `${address}\t${plan.hostname}\n`
  const extra = (plan.task.spec.ContainerSpec.Hosts ?? []).map((line) => `${line}\n`)
  return LOCAL_HOSTS + own + extra.join('')
}
