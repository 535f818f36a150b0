// What the programs of this folder share: a line in, a line out, and bytes gathered from a stream.
"use strict";

const readline = require("node:readline");

async function gathered(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(Buffer.from(piece));
  return { audio: Buffer.concat(pieces).toString("base64") };
}

async function answering(calls, told) {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [name, asked] = JSON.parse(line);
    let answer;
    try {
      answer = await calls[name](asked);
    } catch (error) {
      answer = { error: { ...told(error), message: String(error.message) } };
    }
    console.log(JSON.stringify(answer));
  }
}

module.exports = { answering, gathered };
