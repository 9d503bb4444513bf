import test from 'ava'
import { hostAddresses } from './describe.ts'

test('a host’s addresses are those by which it speaks to others, each once, in order', (t) => {
  const of = (address: string, internal = false) => {
    const family = address.includes(':') ? ('IPv6' as const) : ('IPv4' as const)
    const rest = { netmask: '', mac: '', internal, cidr: null }
    return family === 'IPv6'
      ? { address, family, scopeid: 0, ...rest }
      : { address, family, ...rest }
  }
  const found = hostAddresses({
    lo: [of('127.0.0.1', true), of('::1', true)],
    eth0: [of('192.0.2.7'), of('2001:db8::7'), of('fe80::7')],
    eth1: [of('192.0.2.7'), of('169.254.3.4')],
    docker0: [of('172.17.0.1')],
    sk12345678: [of('10.32.1.1')],
    sv12345678: [of('10.32.1.0')],
  })
  t.deepEqual(found, ['192.0.2.7', '2001:db8::7'])
})
