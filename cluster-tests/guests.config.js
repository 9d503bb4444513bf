// Tests that boot guests: `lanes.ts` runs them beside all others.
import all from './ava.config.js'

export default { ...all, files: ['cluster-tests/guest.test.ts', 'cluster-tests/ipvs*.test.ts'] }
