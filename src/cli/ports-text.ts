/** Published ports as docker's tables show them. */
import type { PortJson } from './swarm-api.ts'

/** `*:8080->80/tcp, *:8443->443/tcp`, in order of published ports, only those of `mode`. */
export function portsText(
  ports: readonly PortJson[] | undefined,
  mode: 'ingress' | 'host',
  separator = ', ',
): string {
  return (ports ?? [])
    .filter((port) => port.PublishMode === mode)
    .toSorted((a, b) => a.PublishedPort - b.PublishedPort)
    .map((port) => `*:${port.PublishedPort}->${port.TargetPort}/${port.Protocol}`)
    .join(separator)
}
