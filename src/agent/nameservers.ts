/**
 * The DNS servers that containers are told when nobody says others: the host's own but for those on
 * loopback, which answer only in the host's network namespace. Docker does the same.
 */
import { readTextFile } from './json-file.ts'

/** Most name servers that a resolver looks at (`MAXNS` of resolv.conf(5)). */
const NAMESERVERS_MAX = 3

/** Reads the host's resolver configuration. */
export async function hostNameservers(path = '/etc/resolv.conf'): Promise<readonly string[]> {
  return parseNameservers((await readTextFile(path)) ?? '')
}

/** The usable servers in the text of a resolv.conf. */
export function parseNameservers(text: string): readonly string[] {
  const servers = [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].map((match) => match[1] ?? '')
  return servers.filter((server) => !isLoopback(server)).slice(0, NAMESERVERS_MAX)
}

function isLoopback(server: string): boolean {
  return server.startsWith('127.') || server === '::1'
}
