// One call of OpenAI's SDK for each line of JSON on standard input; a line of JSON answers it.
//
// The packages lie where NODE_PATH says (scripts/bring-node-sdks).
"use strict";

const OpenAI = require("openai");
const { answering, gathered } = require("./line.cjs");

const client = new OpenAI({
  baseURL: `${process.env.SERVER}/openai/v1`,
  apiKey: process.env.KEY,
  timeout: 60_000,
});

const calls = {
  async speech(asked) {
    const answer = await client.audio.speech.create(asked);
    return { ...(await gathered(answer.body)), headers: Object.fromEntries(answer.headers) };
  },
  async models() {
    const models = [];
    for await (const model of client.models.list()) models.push(model.id);
    return { models };
  },
  async model(id) {
    return client.models.retrieve(id);
  },
};

answering(calls, (error) => ({
  name: error.constructor.name,
  status: error.status ?? null,
  code: error.code ?? null,
}));
