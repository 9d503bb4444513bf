/** A client that asks several nodes from one port, and meets the same replica through each. */
import { at } from '../../base/assert.ts'
import { kernelTest } from '../netlink/testing/sandbox.ts'
import { CLIENT_ADDRESS, Overlay } from './testing/overlay.ts'

const PUBLISHED = 8080
const CLIENT_PORT = 4999

/** Answers each word with who it came from, and does not hang up. */
const SERVER = `
  require('net').createServer((socket) => {
    const { remoteAddress, remotePort } = socket
    socket.on('data', (word) => socket.write(word + ' ' + remoteAddress + ' ' + remotePort))
    socket.on('error', () => {})
  }).listen(80, '0.0.0.0')`

/** Connects to all nodes, then speaks on each connection twice, in turns; prints what it heard. */
const CLIENT = `
  const { connect } = require('net')
  const { once } = require('events')
  const dial = async (host) => {
    const socket = connect({ host, port: ${PUBLISHED}, localPort: ${CLIENT_PORT} })
    await once(socket, 'connect')
    return socket
  }
  const main = async () => {
    const sockets = []
    for (const host of process.argv.slice(1)) sockets.push(await dial(host))
    const heard = []
    for (const word of ['first', 'second']) {
      for (const socket of sockets) {
        socket.write(word)
        heard.push(String((await once(socket, 'data'))[0]))
      }
    }
    for (const socket of sockets) socket.destroy()
    process.stdout.write(heard.join('\\n'))
  }
  setTimeout(() => process.exit(3), 10000).unref()
  main().catch((error) => { process.stdout.write(String(error)); process.exit(1) })`

kernelTest('one port of a client leads through every node to one replica', async (t, sandbox) => {
  await using overlay = await Overlay.create(sandbox, 3)
  overlay.network('front', '10.96.0.0/24')
  for (const report of await overlay.apply()) t.deepEqual(report.faults, [])
  const replica = await overlay.task('a3', at(overlay.nodes, 2), ['front'])
  for (const report of await overlay.apply()) t.deepEqual(report.faults, [])
  overlay.start(replica.netns, [process.execPath, '-e', SERVER])
  overlay.run(replica.netns, `until ss -Hltn sport = 80 | grep -q .; do sleep 0.05; done`)
  for (const { netns, address } of overlay.nodes) {
    overlay.run(
      netns,
      `nft 'table ip balancer { chain pre { type nat hook prerouting priority dstnat;
        ip daddr ${address} tcp dport ${PUBLISHED} dnat to ${replica.address}:80; }; }'`,
    )
  }
  const hosts = overlay.nodes.map(({ address }) => address)
  // Whoever is asked first has the port itself; the tunnels have to agree, too.
  for (const order of [hosts, hosts.toReversed()]) {
    const command = `'${process.execPath}' -e "$(cat <<'N'\n${CLIENT}\nN\n)" ${order.join(' ')} || true`
    const heard = overlay.run(overlay.client, command).split('\n')
    t.log(heard.join('; '))
    const ports = heard.map((line) => line.split(' ').at(-1))
    t.deepEqual(
      heard.map((line) => line.split(' ').slice(0, 2)),
      ['first', 'second'].flatMap((word) => hosts.map(() => [word, CLIENT_ADDRESS])),
    )
    t.is(new Set(ports).size, hosts.length)
    t.deepEqual(ports.slice(0, hosts.length), ports.slice(hosts.length))
  }
})
