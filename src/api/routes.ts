/** The endpoint table, in the order in which routes are tried. */
import { containerRoutes } from './handlers/containers.ts'
import { eventRoutes } from './handlers/events.ts'
import { imageRoutes } from './handlers/images.ts'
import { logRoutes } from './handlers/logs.ts'
import { networkRoutes } from './handlers/networks.ts'
import { nodeRoutes } from './handlers/nodes.ts'
import { serviceRoutes } from './handlers/services.ts'
import { swarmRoutes } from './handlers/swarm.ts'
import { systemRoutes } from './handlers/system.ts'
import { taskRoutes } from './handlers/tasks.ts'
import { unsupportedRoutes } from './handlers/unsupported.ts'
import type { ApiComponents } from './ports.ts'
import type { Route } from './router.ts'

/** Every endpoint of the API. */
export function allRoutes(components: ApiComponents): readonly Route[] {
  return [
    ...systemRoutes(components),
    ...swarmRoutes(components),
    ...nodeRoutes(components),
    ...serviceRoutes(components),
    ...taskRoutes(components),
    ...logRoutes(components),
    ...imageRoutes(components),
    ...networkRoutes(components),
    ...containerRoutes(components),
    ...eventRoutes(components),
    ...unsupportedRoutes(),
  ]
}
