// Real daemons on fixed addresses and real containers: one file at a time.
export default {
  extensions: ['ts'],
  files: ['cluster-tests/**/*.test.ts'],
  timeout: '240s',
  concurrency: 1,
  serial: true,
  workerThreads: false,
}
