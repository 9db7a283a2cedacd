import { expect, test } from "bun:test";
import { SharedHeap, Tensor } from "@lockstep/tensor";
import fc from "fast-check";
import { Layers } from "../layers/layers.ts";
import { readRopeScaling, ropeTurns } from "./rope-scaling.ts";

test.each(["linear", "llama3", "yarn"])(
  "whatever factor of %s is accepted, every rotation is a rotation",
  (rope_type) => {
    const heap = SharedHeap.create(1 << 16);
    const layers = Layers.open(heap);
    const [cosines, sines] = [Tensor.empty(heap, "f32", [2, 8]), Tensor.empty(heap, "f32", [2, 8])];
    const frequencies = Tensor.empty(heap, "f32", [8]);
    const positions = Tensor.empty(heap, "i32", [2]);
    // 1 in f64.
    const amplitude = Tensor.from(heap, "i32", [2], [0, 0x3ff00000]);
    const exponent = fc.double({ min: -5, max: 38, noNaN: true });
    fc.assert(
      fc.property(
        exponent,
        fc.integer({ min: 1, max: 2 ** 20 }),
        fc.constantFrom(1.001, 1e4, 3e38),
        (power, most, theta) => {
          const json = { rope_type, factor: 10 ** power, low_freq_factor: 1, high_freq_factor: 4, attention_factor: 1 };
          let scaling: ReturnType<typeof readRopeScaling>;
          try {
            scaling = readRopeScaling("config.json", "rope_parameters", json, most);
          } catch (error) {
            expect(String(error)).toContain("positions / factor below 2^31");
            return;
          }
          frequencies.f32.set(ropeTurns(theta, 8, scaling).frequencies);
          positions.i32.set([most - 1, most >> 1]);
          layers.rotations(positions, { frequencies, amplitude }, cosines, sines);
          for (const [index, value] of cosines.f32.entries()) {
            expect(Math.hypot(value, sines.f32[index] ?? 0)).toBeCloseTo(1, 6);
          }
        },
      ),
      { seed: 7, numRuns: 500 },
    );
  },
);
