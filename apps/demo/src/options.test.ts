import { describe, expect, test } from "bun:test";
import { UsageError } from "./errors.ts";
import { parseOptions } from "./options.ts";
import { generatorOptions } from "./tell.ts";

test("defaults", () => {
  const options = parseOptions([]);
  expect(options).toMatchObject({
    world: "auto",
    dcp: undefined,
    kvHeads: "auto",
    prompts: ["Psa23:1 The LORD is"],
    maxTokens: 96,
    interleave: 1,
    blockSize: 16,
    kvWeights: undefined,
    kvBytes: undefined,
    backend: "auto",
    combine: "auto",
    deterministic: "rank-order",
    weights: "stored",
    kvDtype: "f32",
    kvScales: undefined,
    prefillChunk: undefined,
    maxDraft: 0,
    explain: undefined,
    explainFile: undefined,
    verify: false,
    expectFile: undefined,
    softwareVulkan: false,
    gpus: undefined,
    sharedGpu: false,
    help: false,
  });
});

test("--dcp follows --world", () => {
  expect(parseOptions(["--world", "auto", "--dcp", "3"])).toMatchObject({ world: "auto", dcp: 3 });
  expect(parseOptions(["--world", "8"]).dcp).toBeUndefined();
  expect(parseOptions(["--world", "8", "--dcp", "2"]).dcp).toBe(2);
  // Left to the library, whose advice to take more ranks then splits heads and tokens over all of them.
  expect(generatorOptions(parseOptions(["--world", "8"]))).not.toHaveProperty("dcp");
  expect(generatorOptions(parseOptions(["--world", "8", "--dcp", "2"]))).toMatchObject({ world: 8, dcp: 2 });
});

test("every option is taken", () => {
  const args =
    "--world 2 --dcp 1 --kv-heads sharded --max-tokens 7 --interleave 4 --block-size 8 --backend webgpu".split(" ");
  const more = [
    "--combine",
    "ag-rs",
    "--weights",
    "int8",
    "--kv",
    "int8",
    "--prefill-chunk",
    "32",
    "--speculative",
    "--draft=3",
    "--explain=7",
    "--explain-json=y",
    "--verify",
    "--model=x",
    "--software-vulkan",
    "--gpus=3",
    "--shared-gpu",
    "--deterministic=world-invariant",
    "--prompt=a b",
    "--prompt",
    "c",
    "--max-context=4096",
    "--kv-weights=3",
    "--kv-bytes=1.5GiB",
    "--plan",
  ];
  expect(parseOptions([...args, ...more])).toEqual({
    world: 2,
    dcp: 1,
    kvHeads: "sharded",
    prompts: ["a b", "c"],
    maxTokens: 7,
    maxContext: 4096,
    plan: true,
    interleave: 4,
    blockSize: 8,
    kvWeights: [3],
    kvBytes: [1.5 * 2 ** 30],
    backend: "webgpu",
    combine: "ag-rs",
    deterministic: "world-invariant",
    weights: "i8",
    kvDtype: "i8",
    kvScales: "per-token",
    prefillChunk: 32,
    maxDraft: 3,
    explain: 7,
    explainFile: "y",
    verify: true,
    expectFile: undefined,
    modelFolder: "x",
    softwareVulkan: true,
    gpus: 3,
    sharedGpu: true,
    help: false,
  });
});

test("--explain takes a step or none, --explain-json implies it; drafts are cut to what --max-tokens leaves", () => {
  expect(parseOptions(["--explain"]).explain).toBe("last");
  expect(parseOptions(["--explain", "--verify"])).toMatchObject({ explain: "last", verify: true });
  expect(parseOptions(["--explain", "12"]).explain).toBe(12);
  expect(parseOptions(["--explain-json", "x"])).toMatchObject({ explain: "last", explainFile: "x" });
  expect(parseOptions(["--speculative"]).maxDraft).toBe(4);
  expect(parseOptions(["--speculative", "--max-tokens", "3"]).maxDraft).toBe(2);
  expect(parseOptions(["--max-context", "max"]).maxContext).toBe("max");
  expect(parseOptions(["--kv", "fp8"]).kvDtype).toBe("f8e4m3");
  expect(parseOptions(["--kv-dtype", "bf16"]).kvDtype).toBe("bf16");
  expect(parseOptions(["--kv", "fp8", "--kv-scales", "static"]).kvScales).toBe("static");
});

describe("refused, naming the option, what was expected and what came", () => {
  test.each([
    [["--unknown"], "--unknown"],
    [["--kv-scales", "static"], "--kv-scales is for --kv fp8 and int8, but --kv is f32"],
    [["--kv", "int8", "--kv-scales", "none"], "--kv-scales must be one of per-token, static, but is none"],
    [["text"], "text"],
    [["--world"], "--world"],
    [["--verify=yes"], "--verify"],
    [["--world", "0"], "--world must be a whole number from 1 to 64, or auto, but is 0."],
    [["--world", "65"], "but is 65."],
    [["--world", "two"], "but is two."],
    [["--world", "2.5"], "but is 2.5."],
    [["--world=-1"], "but is -1."],
    [["--world", ""], "--world must be"],
    [["--world", "4", "--dcp", "3"], "--dcp must divide --world 4, but is 3."],
    [["--world", "Auto"], "--world must be a whole number from 1 to 64, or auto, but is Auto."],
    [["--world", "2", "--dcp", "4"], "--dcp must divide --world 2, but is 4."],
    [["--interleave", "3"], "--interleave must divide --block-size 16, but is 3."],
    [["--kv-weights", "3,,1"], "--kv-weights must be whole numbers with commas between them, as 3,1, whose sum is"],
    [["--kv-weights", "0,0"], "but is 0,0."],
    [["--kv-weights", "65536,1"], "but is 65536,1."],
    [["--kv-bytes", "3GB"], "--kv-bytes must be sizes with commas between them, as 3GiB,512MiB, but is 3GB."],
    [["--kv-bytes", "1GiB,"], "but is 1GiB,."],
    [["--block-size", "0"], "--block-size must be"],
    [["--max-tokens", "1e3"], "--max-tokens must be"],
    [["--backend", "cuda"], "--backend must be one of webgpu, wasm, reference, auto, but is cuda."],
    [["--combine", "nccl"], "--combine must be one of"],
    [["--deterministic", "always"], "--deterministic must be one of rank-order, world-invariant, but is always."],
    [["--kv-heads", "all"], "--kv-heads must be one of"],
    [["--kv-dtype", "f64"], "--kv-dtype must be one of"],
    [["--prompt", ""], "--prompt must not be empty."],
    [["--expect", "x", "--kv-dtype", "f16"], "--expect compares with KV in f32, but --kv-dtype is f16."],
    [["--weights", "int4"], "--weights must be one of stored, int8, but is int4."],
    [["--expect", "x", "--weights", "int8"], "--expect compares with weights as stored, but --weights is int8."],
    [["--kv", "fp4"], "--kv must be one of f32, f16, bf16, fp8, int8, but is fp4."],
    [["--kv", "fp8", "--kv-dtype", "f16"], "--kv and --kv-dtype are the same option, but are fp8 and f16."],
    [["--prefill-chunk", "0"], "--prefill-chunk must be a whole number from 1"],
    [["--draft", "3"], "--draft says how much --speculative drafts, but that is left out."],
    [["--speculative", "--draft", "9", "--max-tokens", "9"], "--draft must be below --max-tokens 9, since"],
    [["--explain", "0"], "--explain must be a whole number from 1"],
    [
      ["--software-vulkan", "--backend", "wasm"],
      "--software-vulkan accepts an adapter for webgpu, but --backend is wasm.",
    ],
    [["--gpus", "0"], "--gpus must be a whole number from 1"],
    [["--gpus", "64"], "--gpus must be at most "],
    [["--gpus", "1", "--backend", "wasm"], "--gpus is for GPUs, but --backend is wasm."],
    [["--shared-gpu", "--backend", "reference"], "--shared-gpu is for GPUs, but --backend is reference."],
    [["--prompt", "a", "--prompt", ""], "--prompt must not be empty."],
    [["--expect", "x", "--kv", "int8"], "--expect compares with KV in f32, but --kv is int8."],
    [["--expect", "x", "--explain"], "drop --explain."],
    [["--expect", "x", "--prompt", "y"], "drop --prompt."],
  ] as const)("%p", (args, message) => {
    expect(() => parseOptions(args)).toThrow(UsageError);
    expect(() => parseOptions(args)).toThrow(message);
  });
});
