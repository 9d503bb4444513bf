/** Requests to published ports, each on a connection of its own. */
import { get } from 'node:http'

/** Body of one GET. */
export function fetchText(host: string, port: number, timeoutMs = 3_000): Promise<string> {
  return new Promise((done, fail) => {
    const call = get({ host, port, agent: false, timeout: timeoutMs }, (response) => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => (body += chunk))
      response.on('end', () => done(body.trim()))
      response.on('error', fail)
    })
    call.on('timeout', () => call.destroy(new Error(`${host}:${port}: no answer in time`)))
    call.on('error', fail)
  })
}

/** The different answers of `count` requests. */
export async function answers(host: string, port: number, count: number): Promise<Set<string>> {
  const seen = new Set<string>()
  for (let index = 0; index < count; index += 1) seen.add(await fetchText(host, port))
  return seen
}
