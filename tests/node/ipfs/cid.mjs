// Prints the CIDs that the IPFS project's own importer gives to files, by the profile unixfs-v1-2025.
//
//     node cid.mjs SIZE…
//
// A file's bytes are those of `patterned` in tests/stores/test_ipfs_cid.py: its first MiB is all 0,
// the next all 1, and so on up to 250. Nothing is kept, so a file may be of any size.
import { importer } from 'ipfs-unixfs-importer'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
import { balanced } from 'ipfs-unixfs-importer/layout'

const MIB = 1024 * 1024
const PROFILE = {
  cidVersion: 1,
  rawLeaves: true,
  chunker: fixedSize({ chunkSize: MIB }),
  layout: balanced({ maxChildrenPerNode: 1024 }),
}
const nowhere = { put: async (cid) => cid }

async function * patterned (size) {
  for (let at = 0; at < size; at += MIB) {
    yield new Uint8Array(Math.min(MIB, size - at)).fill(at / MIB % 251)
  }
}

for (const size of process.argv.slice(2).map(Number)) {
  for await (const { cid } of importer([{ content: patterned(size) }], nowhere, PROFILE)) {
    console.log(cid.toString())
  }
}
