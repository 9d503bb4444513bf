/** Two meshes that talk and are closed; then nothing keeps this process alive. */
import { connectAll, connected, loopbackMesh } from './swarm.ts'

const meshes = [await loopbackMesh(), await loopbackMesh()]
for (const mesh of meshes) mesh.handle('x', () => Promise.resolve('x'))
connectAll(meshes)
await connected(meshes)
await meshes[0]?.request(meshes[1]?.self.nodeId ?? '', 'x', null)
await Promise.all(meshes.map((mesh) => mesh.close()))
