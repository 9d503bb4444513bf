/** `node examples/replicated-map/main.ts`: three members, one of which is killed. */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'

const host = `127.${process.pid >> 16}.${(process.pid >> 8) & 255}.${process.pid & 255}`
const addresses = [7301, 7302, 7303].map((port) => `${host}:${port}`)
const directory = await mkdtemp('/tmp/replicated-map-')
const signal = AbortSignal.timeout(60_000) // Then whatever still waits fails.
const members = new Map<string, ChildProcess>()
const say = (text: string): void => void process.stdout.write(`${text}\n`)

function start(id: string, how: 'first' | 'again'): void {
  members.set(id, fork(`${import.meta.dirname}/member.ts`, [id, directory, how, ...addresses]))
}

async function ask(member: ChildProcess, ...question: string[]): Promise<unknown> {
  member.send(question)
  return (await once(member, 'message', { signal }))[0]
}

/** Tries one member after the other until the one that leads has done it. */
async function set(key: string, value: string): Promise<string> {
  for (const [id, member] of members) {
    if ((await ask(member, key, value)) !== value) continue
    say(`${id} leads and sets ${key} = ${value}`)
    return id
  }
  await sleep(50, undefined, { signal })
  return await set(key, value)
}

for (const id of addresses) start(id, 'first')
await set('shape', 'round')
const leader = await set('colour', 'green')
members.get(leader)?.kill('SIGKILL')
members.delete(leader)
say(`${leader} is killed`)
await set('colour', 'blue')
start(leader, 'again')
for (const [id, member] of members) {
  say(`${id} reads ${String(await ask(member, 'shape'))}, ${String(await ask(member, 'colour'))}`)
}
for (const member of members.values()) member.disconnect()
await Promise.all([...members.values()].map((member) => once(member, 'exit')))
await rm(directory, { recursive: true })
say('all have stopped')
