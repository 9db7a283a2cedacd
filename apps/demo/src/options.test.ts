import { describe, expect, test } from "bun:test";
import { UsageError } from "./errors.ts";
import { parseOptions } from "./options.ts";

test("defaults", () => {
  const options = parseOptions([]);
  expect(options).toMatchObject({
    world: 4,
    dcp: 4,
    kvHeads: "auto",
    prompt: "Psa23:1 The LORD is",
    maxTokens: 96,
    interleave: 1,
    blockSize: 16,
    backend: "auto",
    combine: "auto",
    kvDtype: "f32",
    verify: false,
    expectFile: undefined,
    softwareVulkan: false,
    help: false,
  });
});

test("--dcp follows --world", () => {
  expect(parseOptions(["--world", "8"]).dcp).toBe(8);
  expect(parseOptions(["--world", "8", "--dcp", "2"]).dcp).toBe(2);
});

test("every option is taken", () => {
  const args = "--world 2 --dcp 1 --kv-heads sharded --max-tokens 7 --interleave 4 --block-size 8 --backend wasm".split(
    " ",
  );
  const more = [
    "--combine",
    "ag-rs",
    "--kv-dtype",
    "bf16",
    "--verify",
    "--model=x",
    "--software-vulkan",
    "--prompt=a b",
  ];
  expect(parseOptions([...args, ...more])).toEqual({
    world: 2,
    dcp: 1,
    kvHeads: "sharded",
    prompt: "a b",
    maxTokens: 7,
    interleave: 4,
    blockSize: 8,
    backend: "wasm",
    combine: "ag-rs",
    kvDtype: "bf16",
    verify: true,
    expectFile: undefined,
    modelFolder: "x",
    softwareVulkan: true,
    help: false,
  });
});

describe("refused, naming the option, what was expected and what came", () => {
  test.each([
    [["--unknown"], "--unknown"],
    [["text"], "text"],
    [["--world"], "--world"],
    [["--verify=yes"], "--verify"],
    [["--world", "0"], "--world must be a whole number from 1 to 64, but is 0."],
    [["--world", "65"], "but is 65."],
    [["--world", "two"], "but is two."],
    [["--world", "2.5"], "but is 2.5."],
    [["--world=-1"], "but is -1."],
    [["--world", ""], "--world must be"],
    [["--dcp", "3"], "--dcp must divide --world 4, but is 3."],
    [["--world", "2", "--dcp", "4"], "--dcp must divide --world 2, but is 4."],
    [["--interleave", "3"], "--interleave must divide --block-size 16, but is 3."],
    [["--block-size", "0"], "--block-size must be"],
    [["--max-tokens", "1e3"], "--max-tokens must be"],
    [["--backend", "cuda"], "--backend must be one of webgpu, wasm, reference, auto, but is cuda."],
    [["--combine", "nccl"], "--combine must be one of"],
    [["--kv-heads", "all"], "--kv-heads must be one of"],
    [["--kv-dtype", "f64"], "--kv-dtype must be one of"],
    [["--prompt", ""], "--prompt must not be empty."],
    [["--expect", "x", "--kv-dtype", "f16"], "--expect compares with KV in f32, but --kv-dtype is f16."],
    [["--expect", "x", "--prompt", "y"], "drop --prompt."],
  ] as const)("%p", (args, message) => {
    expect(() => parseOptions(args)).toThrow(UsageError);
    expect(() => parseOptions(args)).toThrow(message);
  });
});
