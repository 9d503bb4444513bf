/** Guest program: daemons and containers on a kernel with IPVS. */
import { runCases } from '../ipvs/run.ts'
import { DAEMON_CASES } from './cases.ts'

/** The first case starts the swarm; one restarts daemons. */
const CASE_LIMIT_MS = 900_000

await runCases(DAEMON_CASES, CASE_LIMIT_MS)
