// The wasm backend gives the recorded bits in the world-invariant mode, in every runtime and however keys are dealt.
import { expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { createContext, runInContext } from "node:vm";
import { openBackend } from "@lockstep/kernels";
import { denoBinary } from "../../scripts/deno-binary.ts";
import { CASES, digestsOf, openDigestHeap } from "./cases.ts";
import { recordedDigests } from "./recorded-digests.ts";

setDefaultTimeout(240_000);

const recorded = recordedDigests();

/** Names the first case that differs. */
function expectRecorded(found: readonly string[]): void {
  expect(found.length).toBe(CASES);
  const different = found.findIndex((digest, at) => digest !== recorded[at]);
  expect([different, found[different]]).toEqual([-1, undefined]);
}

test("there are a thousand, of which few are alike", () => {
  expect(recorded.length).toBe(CASES);
  expect(new Set(recorded).size).toBeGreaterThan(0.98 * CASES);
  for (const digest of recorded) expect(digest).toMatch(/^[0-9a-f]{16}$/);
});

test("in Bun, keys dealt in two ways", async () => {
  const heap = openDigestHeap();
  await using backend = await openBackend("wasm", { heap });
  expectRecorded(digestsOf(backend, heap, 0));
  expectRecorded(digestsOf(backend, heap, 2));
});

test("in Deno, keys dealt in another way", async () => {
  const script = fileURLToPath(new URL("./print-digests.ts", import.meta.url));
  const deno = Bun.spawn([denoBinary(), "run", "--allow-all", "--no-check", "--quiet", script, "3"], {
    stdout: "pipe",
    stderr: "inherit",
    timeout: 200_000,
  });
  expectRecorded(JSON.parse(await new Response(deno.stdout).text()));
});

test("in a bundle for pages, without a process, keys dealt in another way", async () => {
  const entry = fileURLToPath(new URL("./page.ts", import.meta.url));
  const { outputs } = await Bun.build({ entrypoints: [entry], target: "browser" });
  const [bundle] = outputs;
  if (bundle === undefined) throw new Error("nothing was bundled");
  const code = (await bundle.text()).replace(/^export \{[^}]*\};?$/gm, "").replaceAll("import.meta", "({})");
  const page: { digests?: (turn: number) => Promise<string[]> } = {};
  const globals = {
    TextEncoder,
    TextDecoder,
    atob,
    setTimeout,
    clearTimeout,
    console,
    URL,
    performance,
    structuredClone,
    page,
  };
  runInContext(
    `(async () => { ${code}\n})().then(() => { page.digests = globalThis.digests; })`,
    createContext(globals),
  );
  const deadline = Date.now() + 10_000;
  while (page.digests === undefined && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 5));
  expectRecorded(Array.from((await page.digests?.(4)) ?? []));
});
