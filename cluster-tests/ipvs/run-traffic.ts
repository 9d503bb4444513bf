/** Guest program: the cases with traffic. */
import { sh } from './case.ts'
import { runCases } from './run.ts'
import { TRAFFIC_CASES } from './traffic-cases.ts'

// IPv6 is a module of some kernels, which nothing asks for before its settings are written.
sh('modprobe -q ipv6 || true')
await runCases(TRAFFIC_CASES)
