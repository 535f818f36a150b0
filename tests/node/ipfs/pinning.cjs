// A pinning service on loopback: the IPFS project's own mock of its Pinning Service API.
//
//     node pinning.cjs PORT TOKEN
//
// A pin's name decides what becomes of it, as that mock has it. It says `ready` when it serves.
const http = require('http')
const { setup } = require('mock-ipfs-pinning-service')

const [port, token] = process.argv.slice(2)
setup({ token }).then((app) => {
  http.createServer(app).listen(Number(port), '127.0.0.1', () => console.log('ready'))
})
