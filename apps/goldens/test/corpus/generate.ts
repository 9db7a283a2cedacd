// Writes the files of the conformance corpus: `bun apps/goldens/test/corpus/generate.ts`. With --check it compares instead, and
// exits 1 when a file has other bytes.
import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { corpusBuilder } from "./build-corpus.ts";

const folder = new URL("../../../../corpus/", import.meta.url);
const isCheck = process.argv.includes("--check");
for (const [name, bytes] of corpusBuilder().build()) {
  const path = fileURLToPath(new URL(name, folder));
  if (!isCheck) writeFileSync(path, bytes);
  const kept = readFileSync(path);
  const isSame = kept.length === bytes.length && kept.every((byte, at) => byte === bytes[at]);
  if (!isSame) process.exitCode = 1;
  console.log(`${name} ${bytes.length} bytes${isSame ? "" : " differ"}`);
}
