import { expect, setDefaultTimeout, test } from "bun:test";
import { installedGpus } from "@lockstep/kernels";
import { explainFailure } from "../src/command-errors.ts";
import { HELP, parseOptions } from "../src/options.ts";
import { UsageError } from "../src/usage-error.ts";
import { commandOf, RUNTIMES, startServer } from "./server-process.ts";

setDefaultTimeout(60_000);

const MAIN = {
  bun: new URL("../src/main.ts", import.meta.url).pathname,
  deno: new URL("../src/main-deno.ts", import.meta.url).pathname,
};

test("what is left out", () => {
  expect(parseOptions([], {})).toMatchObject({
    modelName: "demo",
    engine: {
      world: "auto",
      backend: "auto",
      deterministic: "rank-order",
      weights: "stored",
      kvDtype: "f32",
      prefixCache: true,
    },
    host: "127.0.0.1",
    port: 8000,
    token: undefined,
    limits: {},
    drainSeconds: 30,
    idleSeconds: 30,
  });
});

test("every option", () => {
  const args =
    "--model /models/Qwen3-0.6B/ --world 4 --dcp 2 --backend wasm --weights int8 --kv fp8 --max-context 4096 " +
    "--deterministic world-invariant --kv-tokens 9999 --kv-weights 3,1 --kv-bytes 3GiB,512MiB --max-running 5 --max-waiting 0 --no-prefix-cache --host 0.0.0.0 --port 0 --token t " +
    "--drain-seconds 0 --idle-seconds 5 --max-body-bytes 1000 --max-choices 3 --max-requests 7";
  expect(parseOptions(args.split(" "), { LOCKSTEP_TOKEN: "other" })).toMatchObject({
    modelFolder: "/models/Qwen3-0.6B/",
    modelName: "Qwen3-0.6B",
    engine: {
      world: 4,
      dcp: 2,
      backend: "wasm",
      deterministic: "world-invariant",
      weights: "i8",
      kvDtype: "f8e4m3",
      maxContext: 4096,
      kvTokens: 9999,
      kvWeights: [3, 1],
      kvBytes: [3 * 2 ** 30, 512 * 2 ** 20],
      maxRunning: 5,
      maxWaiting: 0,
      prefixCache: false,
    },
    host: "0.0.0.0",
    port: 0,
    token: "t",
    limits: { bodyBytes: 1000, choices: 3, requests: 7 },
    drainSeconds: 0,
    idleSeconds: 5,
  });
  expect(parseOptions([], { LOCKSTEP_TOKEN: "secret" }).token).toBe("secret");
  expect(parseOptions(["--model-name", "n"], {}).modelName).toBe("n");
});

test.each([
  [["--world", "0"], "--world must be a whole number from 1 to 64, or auto, but is 0."],
  [["--world", "4", "--dcp", "3"], "--dcp must divide --world 4, but is 3."],
  [
    ["--software-vulkan", "--backend", "wasm"],
    "--software-vulkan accepts an adapter for webgpu, but --backend is wasm.",
  ],
  [["--deterministic", "yes"], "--deterministic must be one of rank-order, world-invariant, but is yes."],
  [["--kv-weights", "1;2"], "--kv-weights must be whole numbers with commas between them, as 3,1, whose sum is"],
  [["--kv-bytes", "0"], "--kv-bytes must be sizes with commas between them, as 3GiB,512MiB, but is 0."],
  [["--port", "65536"], "--port must be a whole number from 0 to 65535, but is 65536."],
  [["--kv", "f8"], "--kv must be one of f32, f16, bf16, fp8, int8, but is f8."],
  [["--idle-seconds", "256"], "--idle-seconds must be a whole number from 1 to 255, but is 256."],
  [["--token", "a b"], "--token must be of 1 to 1000 visible ASCII characters, without spaces."],
  [["--max-run", "3"], "Unknown option '--max-run': expected one such as --max-running. See --help."],
  [["--frob"], /^Unknown option '--frob': expected one such as --[^\n]+\. See --help\.$/],
  [["text"], "Unexpected argument 'text'. See --help."],
])("%j is refused in one line", (args, message) => {
  expect(() => parseOptions(args, {})).toThrow(UsageError);
  expect(() => parseOptions(args, {})).toThrow(message);
});

test("the help tells every option", () => {
  for (const option of HELP.matchAll(/^ {2}--([a-z-]+)/gm)) {
    const [, name = ""] = option;
    expect(() => parseOptions([`--${name}`, "\0"], {})).not.toThrow("Unknown option");
  }
});

test("a failure that the user can act on has exit code 2", () => {
  expect(explainFailure("serve", new UsageError("no"))).toEqual({ line: "serve: no", code: 2 });
  expect(explainFailure("serve", new Error("a\n b"))).toEqual({ line: "serve: a b", code: 1 });
});

test.each([...RUNTIMES])("%s: the command serves the demo's model, and refuses what cannot be", async (runtime) => {
  const run = (args: readonly string[]) => {
    const { exitCode, stderr } = Bun.spawnSync(commandOf(runtime, MAIN[runtime], args));
    return [exitCode, stderr.toString()];
  };
  expect(run(["--port", "x"])).toEqual([2, "serve: --port must be a whole number from 0 to 65535, but is x.\n"]);
  const [code, said] = run(["--model", "/nowhere"]);
  expect([code, String(said)]).toEqual([2, expect.stringMatching(/^serve: .*config\.json.*\n$/)]);
  await using server = await startServer(runtime, MAIN[runtime], [
    "--port",
    "0",
    "--world",
    "2",
    "--max-context",
    "128",
  ]);
  const prompt = "Psa23:1 The LORD is";
  const response = await fetch(`${server.url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "demo", prompt, max_tokens: 7, temperature: 0 }),
  });
  expect((await response.json()).choices[0].text).toBe(" my shepherd; I shall not want");
  server.kill("SIGTERM");
  expect(await server.exited).toBe(0);
});

test("the command serves from a GPU, and refuses in one line where there is none", async () => {
  const isHardware = installedGpus().length > 0;
  if (!isHardware) {
    const { exitCode, stderr } = Bun.spawnSync(commandOf("bun", MAIN.bun, ["--backend", "webgpu", "--port", "0"]));
    expect([exitCode, stderr.toString()]).toEqual([
      2,
      expect.stringMatching(/^serve: backend webgpu cannot run here: .*wasm backend\.\n$/),
    ]);
  }
  const args = ["--port", "0", "--world", "1", "--max-context", "64", "--backend", "webgpu"];
  await using server = await startServer("bun", MAIN.bun, isHardware ? args : [...args, "--software-vulkan"]);
  const ask = async (prompt: string, most: number): Promise<string> => {
    const response = await fetch(`${server.url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "demo", prompt, max_tokens: most, temperature: 0 }),
    });
    return (await response.json()).choices[0].text;
  };
  const texts = await Promise.all([ask("Psa23:1 The LORD is", 7), ask("Psa23:1 The LORD", 3)]);
  expect(texts).toEqual([" my shepherd; I shall not want", " is my shepherd"]);
  server.kill("SIGTERM");
  expect(await server.exited).toBe(0);
});
