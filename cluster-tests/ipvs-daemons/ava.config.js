// Alone: an emulated machine that shares its processors keeps no time.
export default {
  extensions: ['ts'],
  files: ['cluster-tests/ipvs-daemons/suite.ts'],
  timeout: '30m',
  concurrency: 1,
  serial: true,
  workerThreads: false,
}
