// The conformance suite inside a guest; `ipvs-conformance.test.ts` reads what it prints.
export default {
  extensions: ['ts'],
  files: ['cluster-tests/ipvs/conformance-suite.ts'],
  timeout: '240s',
  concurrency: 1,
  serial: true,
  workerThreads: false,
}
