// Writes the files of the conformance corpus: `bun tests/corpus/generate.ts`.
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { corpusBuilder } from "./build-corpus.ts";

const folder = new URL("../../corpus/", import.meta.url);
for (const [name, bytes] of corpusBuilder().build()) {
  const path = fileURLToPath(new URL(name, folder));
  writeFileSync(path, bytes);
  console.log(`${name} ${bytes.length} bytes`);
}
