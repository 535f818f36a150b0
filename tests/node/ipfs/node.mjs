// An IPFS node with Kubo's RPC, on loopback and with no network: js-ipfs, the IPFS project's own.
//
//     node node.mjs REPOSITORY PORT
//
// It says `ready` when it serves. Its packages are newer than itself and want Node 22.
Promise.withResolvers ??= function () {
  const made = {}
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }))
  return made
}
const { create } = await import('ipfs-core')
const { HttpApi } = await import('ipfs-http-server')

const [repo, port] = process.argv.slice(2)
const node = await create({
  repo,
  offline: true,
  silent: true,
  init: { emptyRepo: true, algorithm: 'Ed25519' },
  config: {
    Addresses: { Swarm: [], Delegates: [], API: `/ip4/127.0.0.1/tcp/${port}`, Gateway: '', RPC: '' },
    Bootstrap: [],
    Discovery: { MDNS: { Enabled: false }, webRTCStar: { Enabled: false } },
  },
})
await new HttpApi(node).start()
console.log('ready')
