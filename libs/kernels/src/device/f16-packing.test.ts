import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { PACKING_SOURCE, packsHalvesExactly } from "./f16-packing.ts";
import { openGpuDevice } from "./gpu-device.ts";

setDefaultTimeout(120_000);

const gpu = await openGpuDevice({ adapter: "software" });
afterAll(() => gpu.release());

/** The trial of another conversion: an expression of `bits`. */
function trialOf(conversion: string): string {
  const source = PACKING_SOURCE.replace("(pack2x16float(vec2f(bitcast<f32>(bits), 0.0)) & 0xffffu)", conversion);
  expect(source).not.toBe(PACKING_SOURCE);
  return source.replace("pack2x16float(vec2f(nan, 0.0))", "f16_of_f32_bits(bitcast<u32>(nan))");
}

test("rounding in integers passes the trial", async () => {
  expect(await packsHalvesExactly(gpu.device, trialOf("f16_of_f32_bits(bits)"))).toBe(true);
});

test("rounding towards zero, and rounding ties away from zero, fail it", async () => {
  expect(await packsHalvesExactly(gpu.device, trialOf("f16_of_f32_bits(bits & 0xffffe000u)"))).toBe(false);
  const away = "f16_of_f32_bits(select(bits, bits + 1u, (bits & 0x1fffu) == 0x1000u))";
  expect(await packsHalvesExactly(gpu.device, trialOf(away))).toBe(false);
});

test("a kernel that the device rejects counts as inexact", async () => {
  expect(await packsHalvesExactly(gpu.device, "not WGSL")).toBe(false);
});

test("software adapters are not tried: their speed does not matter", () => {
  expect(gpu.packsHalves).toBe(false);
});
