// node transcribe.mjs BASE_URL API_KEY FILE OPTIONS: transcribes a file with the OpenAI SDK, as its documentation does.
// OPTIONS is JSON. Prints the answer as JSON, or the error's class and fields.
import fs from "node:fs";
import OpenAI from "openai";

const [baseURL, apiKey, file, options] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
try {
  const answer = await client.audio.transcriptions.create({
    file: fs.createReadStream(file),
    ...JSON.parse(options),
  });
  console.log(JSON.stringify({ answer }));
} catch (error) {
  const { status, code, param, type, message } = error;
  console.log(JSON.stringify({ error: error.constructor.name, status, code, param, type, message }));
}
