/**
 * Preloaded by `scripts/raft-families.ts` (`node --import`) into the processes that run a test:
 * plants the mistake whose name stands in RAFT_MISTAKE before anything of `src/raft` is loaded.
 */
import { defined } from '../../base/assert.ts'
import { plant } from '../sim/mutation-loader.ts'
import { mistakeNamed } from './families.ts'

const name = process.env['RAFT_MISTAKE']
if (name !== undefined) plant(defined(mistakeNamed(name), `the mistake "${name}"`))
