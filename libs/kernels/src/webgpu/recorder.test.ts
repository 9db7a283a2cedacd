import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { SharedHeap, Tensor } from "@lockstep/tensor";
import { KernelContext } from "../context.ts";
import { openGpuDevice } from "../device/gpu-device.ts";
import { DeviceError } from "../errors.ts";
import { Recorder } from "./recorder.ts";
import { reservedBytes } from "./region.ts";
import { workgroupGrid } from "./workgroup-grid.ts";
import { outcomeOf } from "../../../../tests/outcome-of.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(1 << 20);
const gpu = await openGpuDevice({ adapter: "software" });
const context = new KernelContext();
const recorder = new Recorder(gpu, context);
afterAll(async () => {
  recorder.destroy();
  await gpu.release();
});

test("a kernel that the device rejects is a DeviceError that names it; the next op is not affected", async () => {
  const out = Tensor.zeros(heap, "f32", [4]);
  const record = (wgsl: string) => () => {
    const source = { key: `test ${wgsl.length}`, wgsl: () => wgsl, entryPoint: "main", bindings: ["write"] as const };
    recorder.dispatch(recorder.kernel(source), [recorder.write(out)], 1);
  };
  const broken = "@compute @workgroup_size(4) fn main() { let from = 1; }";
  const working = `@group(0) @binding(0) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(4) fn main(@builtin(local_invocation_index) i: u32) { out[i] = f32(i); }`;
  const failed = recorder.run(record(broken));
  expect(await outcomeOf(failed ?? Promise.resolve())).toThrow(DeviceError);
  await recorder.run(record(working));
  expect([...out.f32]).toEqual([0, 1, 2, 3]);
});

test("what a failing recording recorded is dropped", async () => {
  const out = Tensor.zeros(heap, "f32", [4]);
  const record = (): void => {
    recorder.write(out);
    throw new RangeError("no");
  };
  expect(() => recorder.run(record)).toThrow(RangeError);
  expect(recorder.submit()).toBeUndefined();
});

test("grids cover any count within WebGPU's limit per dimension", () => {
  for (const count of [1, 65535, 65536, 70_001, 1_000_003, 65535 * 65535]) {
    const [x, y] = workgroupGrid(count);
    expect(x * y).toBeGreaterThanOrEqual(count);
    expect(Math.max(x, y)).toBeLessThanOrEqual(65535);
    expect(x * y - count).toBeLessThan(Math.max(x, y));
  }
});

test("regions are aligned, large enough, and at most a quarter larger", () => {
  for (let bytes = 1; bytes < 1e9; bytes = Math.ceil(bytes * 1.37)) {
    const reserved = reservedBytes(bytes);
    expect(reserved % 256).toBe(0);
    expect(reserved).toBeGreaterThanOrEqual(bytes);
    expect(reserved).toBeLessThanOrEqual(Math.max(256, bytes * 1.25 + 256));
  }
});
