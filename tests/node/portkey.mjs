// node portkey.mjs FILE CLIENT OPTIONS: transcribes a file with Portkey's SDK, as its documentation does.
// CLIENT and OPTIONS are JSON. Prints the answer as JSON, or the error's class and fields.
import fs from "node:fs";
import { Portkey } from "portkey-ai";

const [file, client, options] = process.argv.slice(2);
try {
  const portkey = new Portkey(JSON.parse(client));
  const answer = await portkey.audio.transcriptions.create({
    file: fs.createReadStream(file),
    ...JSON.parse(options),
  });
  console.log(JSON.stringify({ answer }));
} catch (error) {
  const { status, message } = error;
  console.log(JSON.stringify({ error: error.constructor.name, status, message }));
}
