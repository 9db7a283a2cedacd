// A page in Chromium, isolated from other origins: ranks as its workers, on WebAssembly and on the browser's WebGPU.
import { cpSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { buildPage, buildTextPage } from "./bundle-checks.ts";
import type { Check } from "./checks.ts";
import { openPage } from "./chromium.ts";
import type { Expected } from "./expected.ts";
import type { Lab } from "./lab.ts";
import { recordedDigests } from "../invariant-digests/recorded-digests.ts";
import type { WorldResults } from "./programs/run-world.ts";

const DEMO = fileURLToPath(new URL("../../apps/demo", import.meta.url));

const ISOLATED = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };
/** Sums in WGSL are ordered otherwise than in WebAssembly. */
const MOST_ERROR = 1e-5;

/** @param chromium path of Chromium, which may have to be installed */
export function pageChecks(lab: Lab, expected: Expected, chromium: Promise<string>): Check[] {
  return [
    {
      name: "Chromium: a page built by Vite, worlds of 4 on wasm (the same bits) and on the browser's WebGPU",
      run: async () => {
        const { folder } = await buildPage(lab);
        const server = serve(folder);
        try {
          const address = `http://127.0.0.1:${server.port}/page.html`;
          const [wasm, webgpu] = await openPage(await chromium, address, async (page) => {
            const run = async (backend: string) => (await page.evaluate(`runWorldOn("${backend}")`)) as WorldResults;
            return [await run("wasm"), await run("webgpu")] as const;
          });
          const { attention } = expected.same(JSON.stringify(wasm));
          return compare(attention, webgpu, wasm);
        } finally {
          await server.stop(true);
        }
      },
    },
    {
      name: "Chromium: a page built by Vite that fetches the demo's model, and writes what its reference has, on 2 ranks",
      run: async () => {
        const { folder } = await buildTextPage(lab);
        cpSync(join(DEMO, "model"), join(folder, "model"), { recursive: true });
        const [{ prompt_ids: prompt, greedy_ids: wanted }] = JSON.parse(
          readFileSync(join(DEMO, "goldens/greedy_public.json"), "utf8"),
        );
        const server = serve(folder);
        try {
          const address = `http://127.0.0.1:${server.port}/text-page.html`;
          const code = `continueText(${JSON.stringify(prompt)}, ${wanted.length})`;
          const found = await openPage(await chromium, address, (page) => page.evaluate(code));
          const { tokens, weightBytes } = found as { readonly tokens: number[]; readonly weightBytes: number };
          if (tokens.join() !== wanted.join()) throw new Error(`expected ${wanted}, but found ${tokens}`);
          return `${tokens.length} tokens of ${weightBytes} bytes of weights`;
        } finally {
          await server.stop(true);
        }
      },
    },
    {
      name: "Chromium: a thousand world-invariant attentions, the recorded bits",
      run: async () => {
        const folder = join(lab.folder, "digest-page");
        const entry = fileURLToPath(new URL("../invariant-digests/page.ts", import.meta.url));
        const { success, logs } = await Bun.build({ entrypoints: [entry], target: "browser", outdir: folder });
        if (!success) throw new Error(`cannot bundle ${entry}: ${logs.join("\n")}`);
        writeFileSync(join(folder, "page.html"), '<!doctype html>\n<script type="module" src="./page.js"></script>\n');
        const server = serve(folder);
        try {
          const address = `http://127.0.0.1:${server.port}/page.html`;
          const found = await openPage(await chromium, address, (page) => page.evaluate("digests(5)"));
          const recorded = recordedDigests();
          if (!Array.isArray(found) || found.length !== recorded.length) throw new Error("the page found no digests");
          const different = recorded.findIndex((digest, at) => digest !== found[at]);
          if (different === -1) return `${recorded.length} digests`;
          throw new Error(`case ${different}: expected ${recorded[different]}, but found ${found[different]}`);
        } finally {
          await server.stop(true);
        }
      },
    },
  ];
}

/** Serves the files of a folder, with the headers that isolate a page. */
function serve(folder: string): Bun.Server<undefined> {
  return Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request) => {
      const file = join(folder, normalize(decodeURIComponent(new URL(request.url).pathname)));
      if (!existsSync(file)) return new Response("not found", { status: 404, headers: ISOLATED });
      return new Response(Bun.file(file), { headers: ISOLATED });
    },
  });
}

/** Collectives are the same bits over a GPU; attention is near. Returns how near. */
function compare(attention: readonly number[], webgpu: WorldResults, wasm: WorldResults): string {
  if (webgpu.collectives.join() !== wasm.collectives.join()) {
    throw new Error(`collectives on webgpu left ${webgpu.collectives}, on wasm ${wasm.collectives}`);
  }
  const errors = attention.map((number, index) => Math.abs(number - (webgpu.attention[index] ?? Number.NaN)));
  const largest = Math.max(...errors);
  if (!(largest <= MOST_ERROR)) throw new Error(`attention on webgpu is ${largest} off that on wasm`);
  return `webgpu within ${largest.toExponential(1)} of wasm`;
}
