#!/usr/bin/env node
// `bun run goldens FILE...`: checks every backend against reference outputs computed by another implementation.
import { existsSync } from "node:fs";
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { type BackendName, BackendUnavailable } from "@lockstep/kernels";
import { describeOptionsError, LockstepError } from "@lockstep/tensor";
import { type CaseResult, checkFiles } from "./check-file.ts";
import { checkCorpus, type CorpusResult } from "./corpus/check-corpus.ts";
import type { Deviation } from "./tolerance.ts";
import { UsageError } from "./usage-error.ts";

const USAGE = `bun run goldens FILE.safetensors|manifest.json... [options]

Runs every backend over the cases of reference files (docs/goldens.md specifies the format) or of the conformance corpus
(by its manifest), and prints a line per case and backend with the largest error. A case of the corpus that fails like a
known mistake names it. Exits 1 beyond tolerance or when a backend did not run, 2 when a file or an option is bad.

  --backend LIST   webgpu,wasm,reference (default: all three)
  --world LIST     worlds that run attention cases of reference files (default: 1,2,3,4,8); the corpus says its own
  --only LIST      beginnings of the names of cases of the corpus to run, as decode_step/ (default: all)
  --adapter KIND   software (default), hardware or any: which adapter webgpu uses
  --help`;

const BACKENDS: readonly BackendName[] = ["webgpu", "wasm", "reference"];
const ADAPTERS = ["software", "hardware", "any"] as const;

function listOption(name: string, text: string): string[] {
  const items = text.split(",").filter((item) => item !== "");
  if (items.length === 0) throw new UsageError(name, "a comma-separated list", `"${text}"`);
  return items;
}

const OPTIONS = {
  backend: { type: "string", default: BACKENDS.join(",") },
  world: { type: "string", default: "1,2,3,4,8" },
  adapter: { type: "string", default: "software" },
  only: { type: "string" },
  help: { type: "boolean", default: false },
} as const;

function readOptions() {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: OPTIONS });
  if (values.help) return undefined;
  const backends = listOption("--backend", values.backend).map((text) => {
    const backend = BACKENDS.find((name) => name === text);
    if (backend === undefined) throw new UsageError("--backend", `of ${BACKENDS.join(", ")}`, text);
    return backend;
  });
  const worlds = listOption("--world", values.world).map((text) => {
    const size = Number(text);
    if (!Number.isInteger(size) || size < 1 || size > 64) {
      throw new UsageError("--world", "integers from 1 to 64", text);
    }
    return size;
  });
  const adapter = ADAPTERS.find((kind) => kind === values.adapter);
  if (adapter === undefined) {
    throw new UsageError("--adapter", `one of ${ADAPTERS.join(", ")}`, values.adapter);
  }
  if (positionals.length === 0) throw new UsageError("FILE", "one or more reference files", "none");
  for (const path of positionals) {
    if (existsSync(path)) continue;
    const advice = "Give the path of a safetensors file or of a manifest.json, from this folder.";
    throw new UsageError("FILE", "an existing file", path, advice);
  }
  const only = values.only === undefined ? undefined : listOption("--only", values.only);
  return { backends, worlds, adapter, paths: positionals, ...(only === undefined ? {} : { only }) };
}

function formatResult({ file, id, backend, world, fields, deviation }: CaseResult): string {
  const verdict = deviation.worst <= 1 ? "ok  " : "FAIL";
  const where = world === undefined ? "" : ` world ${world}`;
  const details = Object.entries(fields)
    .filter(([name, value]) => name !== "case" && value !== "")
    .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" ");
  const error = `max error ${deviation.maxError.toExponential(2)} (${deviation.worst.toFixed(3)} of tolerance)`;
  return `${verdict} ${basename(file)} ${id} ${backend}${where}  ${error}  ${details}`;
}

function formatCorpusResult({ case: name, backend, deviation, mistakes }: CorpusResult): string {
  const verdict = deviation.worst <= 1 ? "ok  " : "FAIL";
  const error = `max error ${deviation.maxError.toExponential(2)} (${deviation.worst.toFixed(3)} of tolerance)`;
  const named = mistakes.length === 0 ? "" : `  looks like ${mistakes.join(" or ")}`;
  return `${verdict} ${name} ${backend}  ${error}${named}`;
}

/** Returns the exit code. */
async function main(): Promise<number> {
  const options = readOptions();
  if (options === undefined) {
    console.log(USAGE);
    return 0;
  }
  const onDevice = (backend: BackendName, device: string): void => console.log(`${backend} on ${device}`);
  const results: { readonly deviation: Deviation }[] = [];
  const manifests = options.paths.filter((path) => path.endsWith(".json"));
  for (const path of manifests) {
    const onResult = (result: CorpusResult): void => console.log(formatCorpusResult(result));
    const { results: found, mistakes } = await checkCorpus(path, { ...options, onDevice, onResult });
    results.push(...found);
    for (const name of new Set(found.flatMap((result) => result.mistakes))) {
      console.log(`${name}: ${mistakes.get(name) ?? ""}`);
    }
  }
  const paths = options.paths.filter((path) => !path.endsWith(".json"));
  if (paths.length > 0) {
    const onResult = (result: CaseResult): void => console.log(formatResult(result));
    results.push(...(await checkFiles(paths, { ...options, onDevice, onResult })));
  }
  const failed = results.filter(({ deviation }) => !(deviation.worst <= 1)).length;
  console.log(`${results.length - failed} passed, ${failed} failed`);
  return failed === 0 && results.length > 0 ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  const isOfParse = error instanceof TypeError && "code" in error;
  const known = error instanceof LockstepError || error instanceof UsageError || isOfParse;
  const message = isOfParse ? `${describeOptionsError(error, OPTIONS)}.` : (error as Error).message;
  console.error(`goldens: ${known ? message.replaceAll("\n", " ") : (error as Error).stack}`);
  process.exitCode = known && !(error instanceof BackendUnavailable) ? 2 : 1;
}
