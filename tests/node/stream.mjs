// node stream.mjs BASE_URL API_KEY FILE OPTIONS: streams the transcript of a file with the OpenAI SDK.
// OPTIONS is JSON. Prints each event as a line of JSON as it comes, or the error's class and fields.
import fs from "node:fs";
import OpenAI from "openai";

const [baseURL, apiKey, file, options] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
try {
  const stream = await client.audio.transcriptions.create({
    file: fs.createReadStream(file),
    stream: true,
    ...JSON.parse(options),
  });
  for await (const event of stream) console.log(JSON.stringify(event));
} catch (error) {
  const { status, code, param, type, message } = error;
  console.log(JSON.stringify({ error: error.constructor.name, status, code, param, type, message }));
}
