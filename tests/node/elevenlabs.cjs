// One call of ElevenLabs' SDK for each line of JSON on standard input; a line of JSON answers it.
//
// The packages lie where NODE_PATH says (scripts/bring-node-sdks).
"use strict";

const { ElevenLabsClient } = require("@elevenlabs/elevenlabs-js");
const { answering, gathered } = require("./line.cjs");

const client = new ElevenLabsClient({
  baseUrl: `${process.env.SERVER}/elevenlabs`,
  apiKey: process.env.KEY,
  timeoutInSeconds: 60,
});
const speaking = client.textToSpeech;

const calls = {
  async convert({ voice, ...asked }) {
    return gathered(await speaking.convert(voice, asked));
  },
  async stream({ voice, ...asked }) {
    return gathered(await speaking.stream(voice, asked));
  },
  async timed({ voice, ...asked }) {
    const { audioBase64, alignment } = await speaking.convertWithTimestamps(voice, asked);
    return { audio: audioBase64, characters: alignment.characters.join("") };
  },
  async lines({ voice, ...asked }) {
    const pieces = [];
    let characters = "";
    for await (const line of await speaking.streamWithTimestamps(voice, asked)) {
      pieces.push(Buffer.from(line.audioBase64, "base64"));
      if (line.alignment) characters += line.alignment.characters.join("");
    }
    return { audio: Buffer.concat(pieces).toString("base64"), characters };
  },
  async voices(search) {
    const page = await client.voices.search({ pageSize: 100, search });
    return { voices: page.voices.map((voice) => voice.voiceId) };
  },
  async models() {
    return { models: (await client.models.list()).map((model) => model.modelId) };
  },
};

answering(calls, (error) => ({
  name: error.constructor.name,
  status: error.statusCode ?? null,
  code: error.body?.detail?.code ?? null,
}));
