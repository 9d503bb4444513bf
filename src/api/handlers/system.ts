/** `_ping`, `version`, `info`: what every client asks first. */
import { infoJson } from '../docker/info.ts'
import { versionJson } from '../docker/version.ts'
import type { ApiComponents } from '../ports.ts'
import { json } from '../reply.ts'
import type { Reply } from '../reply.ts'
import { route } from '../router.ts'
import type { Route } from '../router.ts'

/** Routes of the daemon itself. */
export function systemRoutes(components: ApiComponents): readonly Route[] {
  return [
    route('GET', '/_ping', () => ping(components)),
    route('GET', '/version', () => json(versionJson(components.describe()))),
    route('GET', '/info', async () => {
      const images = await components.images.list()
      return json(infoJson(components, { imageCount: images.length }))
    }),
  ]
}

/** The `Swarm` header only hides subcommands in the docker CLI's help. */
function ping(components: ApiComponents): Reply {
  const status = components.swarm.status()
  const role = status.controlAvailable ? 'active/manager' : 'active/worker'
  return {
    type: 'text',
    status: 200,
    text: 'OK',
    headers: {
      Swarm: status.state === 'active' ? role : status.state,
      'Cache-Control': 'no-cache, no-store, must-revalidate',
      Pragma: 'no-cache',
    },
  }
}
