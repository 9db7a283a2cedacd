// The package as a bundler makes it for a page, run where there is neither a process nor its modules.
import { expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { createContext, runInContext } from "node:vm";

setDefaultTimeout(60_000);

const PROGRAM = `
import { BackendUnavailable, installedGpus, openBackend } from "@lockstep/kernels";
import { SharedHeap, Tensor } from "@lockstep/tensor";

globalThis.run = async () => {
  const heap = SharedHeap.create(1 << 20);
  const outs = [];
  for (const name of ["wasm", "reference", "auto"]) {
    const backend = await openBackend(name, { heap });
    const x = Tensor.from(heap, "f32", [3, 2], [1, 2, 3, 4, 5, 6]);
    const out = Tensor.empty(heap, "f32", [1, 3, 2]);
    await backend.packSeq({ x, lengths: [3], out });
    outs.push(backend.name + " " + out.f32.join());
    await backend.close();
  }
  const refused = await openBackend("webgpu", { heap, adapter: "software" }).catch((error) => error);
  return { outs, gpus: installedGpus().length, isTyped: refused instanceof BackendUnavailable };
};`;

/** Modules that only runtimes have and that this package asks for by an import that a bundler sees. */
const asked: string[] = [];

async function bundle(): Promise<string> {
  const entry = fileURLToPath(new URL("page.ts", import.meta.url));
  const { outputs } = await Bun.build({
    entrypoints: [entry],
    target: "browser",
    files: { [entry]: PROGRAM },
    plugins: [
      {
        name: "asked",
        setup(build) {
          build.onResolve({ filter: /^(node|bun):|^webgpu$/ }, ({ path, importer }) => {
            if (importer.includes("/libs/kernels/")) asked.push(`${path} of ${importer}`);
            return undefined;
          });
        },
      },
    ],
  });
  const [script] = outputs;
  if (script === undefined) throw new Error("nothing was bundled");
  return script.text();
}

test("a bundle for browsers imports no module of a runtime, and computes without a process", async () => {
  const code = await bundle();
  expect(asked).toEqual([]);
  const page: { run?: () => Promise<object> } = {};
  const globals = { TextEncoder, TextDecoder, atob, setTimeout, clearTimeout, console, URL, performance, page };
  const script = code.replace(/^export \{[^}]*\};?$/gm, "").replaceAll("import.meta", "({})");
  runInContext(`(async () => { ${script}\n})().then(() => { page.run = globalThis.run; })`, createContext(globals));
  const deadline = Date.now() + 10_000;
  while (page.run === undefined && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 5));
  const outs = ["wasm", "reference", "wasm"].map((name) => `${name} 1,2,3,4,5,6`);
  expect(JSON.stringify(await page.run?.())).toBe(JSON.stringify({ outs, gpus: 0, isTyped: true }));
});
