// What goes up with a submission: every byte that comes from the host, once, and no room that the GPU fills.
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { SharedHeap, Tensor } from "@lockstep/tensor";
import fc from "fast-check";
import { openWebgpuBackend } from "../backends/webgpu-backend.ts";
import { watchDawn } from "../testing/watch-dawn.ts";
import { betweenHoles, type LateUpload } from "./late-uploads.ts";

setDefaultTimeout(300_000);

const heap = SharedHeap.create(128 << 20);
const backend = await openWebgpuBackend({ heap, adapter: "software" });
afterAll(() => backend.close());

const part = fc.record({ bytes: fc.integer({ min: 1, max: 40 }), isHole: fc.boolean(), isLate: fc.boolean() });

test("what goes up and what does not are all there is, each byte once", () => {
  const tensor = Tensor.zeros(heap, "f32", [1]);
  fc.assert(
    fc.property(fc.array(part, { maxLength: 12 }), (parts) => {
      const late: LateUpload[] = [];
      const goesUp: boolean[] = [];
      for (const { bytes, isHole, isLate } of parts) {
        const pieces = isHole ? [] : [{ tensor, at: goesUp.length, strides: [1] }];
        if (isHole || isLate) late.push({ pieces, offset: goesUp.length, bytes });
        for (let byte = 0; byte < bytes; byte++) goesUp.push(!isHole);
      }
      const found = goesUp.map(() => 0);
      for (const { start, end } of betweenHoles(late, goesUp.length)) {
        expect(end).toBeGreaterThan(start);
        for (let at = start; at < end; at++) found[at] = (found[at] ?? 0) + 1;
      }
      expect(found).toEqual(goesUp.map(Number));
    }),
  );
});

/** Runs `run` and counts the bytes that copies from staging memory bring up. */
async function staged(run: () => Promise<void>): Promise<number> {
  let bytes = 0;
  const seen = ([from, , , , size]: readonly unknown[]): void => {
    if ((from as GPUBuffer).label === "lockstep staging") bytes += size as number;
  };
  await watchDawn([["GPUCommandEncoder", "copyBufferToBuffer", seen]], run);
  return bytes;
}

test.each([
  ["GPU, heap", [true, false]],
  ["heap, GPU", [false, true]],
  ["heap, GPU, heap, GPU", [false, true, false, true]],
  ["GPU, GPU, heap", [true, true, false]],
] as const)("states that lie at %s merge as in the heap, and only those of the heap go up", async (_, places) => {
  // Small ones go up by the queue, and are gathered at once; large ones by mapped memory.
  for (const [tokens, heads, dim] of [
    [3, 2, 8],
    [32, 16, 64],
    [64, 16, 128],
    [65, 15, 129],
  ] as const) {
    const shape = [tokens, heads, dim];
    const count = tokens * heads * dim;
    const outs = places.map((_place, state) =>
      Tensor.from(
        heap,
        "f32",
        shape,
        Float32Array.from({ length: count }, (_value, at) => Math.sin(at + 7 * state)),
      ),
    );
    const lses = places.map((_place, state) =>
      Tensor.from(
        heap,
        "f32",
        [tokens, heads],
        Array.from({ length: tokens * heads }, (_value, at) => Math.cos(at * state)),
      ),
    );
    const [wanted, got] = [Tensor.empty(heap, "f32", shape), Tensor.empty(heap, "f32", shape)];
    await backend.mergeAttnStates({ outs, lses, out: wanted });
    const up = (tensor: Tensor) => {
      const made = backend.empty(tensor.dtype, tensor.shape);
      void backend.upload(tensor, made);
      return made;
    };
    const placed = places.map((onGpu, state) => (onGpu ? up(outs[state] ?? got) : (outs[state] ?? got)));
    await backend.download(up(lses[0] ?? got), (lses[0] ?? got).clone(heap));
    for (let round = 0; round < 2; round++) {
      got.fill(Number.NaN);
      const bytes = await staged(async () => backend.mergeAttnStates({ outs: placed, lses, out: got }));
      expect(got.bytes.every((byte, at) => byte === wanted.bytes[at])).toBe(true);
      const fromHeap = places.filter((onGpu) => !onGpu).length * outs.reduce((_sum, { byteLength }) => byteLength, 0);
      // Of what is reserved up to a quarter is there to let operands grow.
      const room = (places.length * count * 4) / 4 + places.length * (tokens * heads * 4 + 1024) + 4096;
      if (count * 4 < 1 << 16) expect(bytes).toBe(0);
      else expect(bytes).toBeLessThanOrEqual(fromHeap + room);
      if (count * 4 * places.length >= 1 << 18) expect(bytes).toBeGreaterThanOrEqual(fromHeap);
    }
    for (const operand of [...outs, ...lses, wanted, got]) operand.free();
    for (const operand of placed) if (operand.place === "device") operand.free();
  }
});

test("many uploads before any has come take a limited number of buffers, and all arrive", async () => {
  const rows = Tensor.zeros(heap, "f32", [1, 1, 1 << 18]);
  const cache = backend.empty("f32", [300, 1, 1, 1 << 18]);
  let made = 0;
  const seen = ([descriptor]: readonly unknown[]): void => {
    if ((descriptor as GPUBufferDescriptor).label === "lockstep staging") made++;
  };
  await watchDawn([["GPUDevice", "createBuffer", seen]], async () => {
    for (let slot = 0; slot < 300; slot++) {
      rows.fill(slot);
      await backend.writeKvCache({ key: rows, keyCache: cache, slotMapping: [slot] });
    }
  });
  expect(made).toBeGreaterThan(0);
  expect(made).toBeLessThanOrEqual(256);
  const down = Tensor.empty(heap, "f32", [1, 1, 1, 1 << 18]);
  for (const slot of [0, 1, 150, 254, 255, 256, 299]) {
    await backend.download(cache.slice(0, slot, slot + 1), down);
    expect(down.f32.every((value) => value === slot)).toBe(true);
  }
  cache.free();
  for (const tensor of [rows, down]) tensor.free();
});
