/** libp2p's logging port, silent: it traces every frame, and the mesh logs what matters itself. */
import type { ComponentLogger, Logger } from '@libp2p/interface'

/** Says nothing. */
export const quietLog: Logger = Object.assign(() => {}, {
  error: () => {},
  trace: () => {},
  enabled: false,
  newScope: (): Logger => quietLog,
})

/** Says nothing, for any component. */
export const quietLogger: ComponentLogger = { forComponent: () => quietLog }
