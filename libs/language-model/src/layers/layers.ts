import { readFileSync } from "node:fs";
import { ArgumentError, type SharedHeap, type Tensor } from "@lockstep/tensor";

/** Exports of layers.as.ts: byte offsets and counts. */
interface Exports {
  linear(x: number, weight: number, y: number, tokens: number, outs: number, ins: number): void;
  rmsNorm(x: number, weight: number, y: number, tokens: number, dim: number, eps: number): void;
  rotate(x: number, cosines: number, sines: number, tokens: number, heads: number, half: number): void;
  swiGlu(gate: number, up: number, out: number, count: number): void;
  addInto(x: number, y: number, count: number): void;
  embed(ids: number, table: number, out: number, tokens: number, dim: number, first: number, last: number): void;
  argmax(values: number, count: number): number;
  widenBf16(from: number, stride: number, to: number, rows: number, cols: number): void;
  widenF16(from: number, stride: number, to: number, rows: number, cols: number): void;
  widenF32(from: number, stride: number, to: number, rows: number, cols: number): void;
}

/**
 * The layers of a transformer besides attention, computed in place on one rank's shared heap by layers.as.ts.
 * Tensors are contiguous and f32 unless said otherwise.
 */
export class Layers {
  readonly #wasm: Exports;

  private constructor(wasm: Exports) {
    this.#wasm = wasm;
  }

  /** Instantiates the layers over a heap's memory. Throws when the module was not built. */
  static open(heap: SharedHeap): Layers {
    const path = new URL("../../build/layers.wasm", import.meta.url);
    let code: Uint8Array<ArrayBuffer>;
    try {
      code = new Uint8Array(readFileSync(path));
    } catch {
      throw new Error(`${path.pathname} is missing: run \`bun run build:wasm\` first.`);
    }
    const instance = new WebAssembly.Instance(new WebAssembly.Module(code), { env: { memory: heap.memory } });
    return new Layers(instance.exports as unknown as Exports);
  }

  /** y [T, O] = x [T, I] times the transpose of weight [O, I]. */
  linear(x: Tensor, weight: Tensor, y: Tensor): void {
    const [outs = 0, ins = 0] = weight.shape;
    const tokens = rows(x, ins, "linear", "x");
    expectRows(y, outs, tokens, "linear", "y");
    this.#wasm.linear(x.byteOffset, weight.byteOffset, y.byteOffset, tokens, outs, ins);
  }

  /** y [T, D] = x [T, D] normalised to a root mean square of 1, times weight [D]. `y` may be `x`. */
  rmsNorm(x: Tensor, weight: Tensor, y: Tensor, eps: number): void {
    const dim = weight.size;
    const tokens = rows(x, dim, "rmsNorm", "x");
    expectRows(y, dim, tokens, "rmsNorm", "y");
    this.#wasm.rmsNorm(x.byteOffset, weight.byteOffset, y.byteOffset, tokens, dim, eps);
  }

  /** Turns the heads of x [T, H, D] by the angles whose cosines and sines are [T, D / 2]. */
  rotate(x: Tensor, cosines: Tensor, sines: Tensor): void {
    const [tokens = 0, heads = 0, dim = 0] = x.shape;
    rows(x, heads * dim, "rotate", "x");
    expectRows(cosines, dim / 2, tokens, "rotate", "cosines");
    expectRows(sines, dim / 2, tokens, "rotate", "sines");
    this.#wasm.rotate(x.byteOffset, cosines.byteOffset, sines.byteOffset, tokens, heads, dim / 2);
  }

  /** out = silu(gate) * up, element by element; `out` may be either. */
  swiGlu(gate: Tensor, up: Tensor, out: Tensor): void {
    expectRows(up, gate.size, 1, "swiGlu", "up");
    expectRows(out, gate.size, 1, "swiGlu", "out");
    this.#wasm.swiGlu(gate.byteOffset, up.byteOffset, out.byteOffset, gate.size);
  }

  /** x += y. */
  addInto(x: Tensor, y: Tensor): void {
    expectRows(y, x.size, 1, "addInto", "y");
    this.#wasm.addInto(x.byteOffset, y.byteOffset, x.size);
  }

  /** Adds `bias` [D] to every row of x [T, D]. */
  addBias(x: Tensor, bias: Tensor): void {
    const tokens = rows(x, bias.size, "addBias", "x");
    expectRows(bias, bias.size, 1, "addBias", "bias");
    for (let token = 0; token < tokens; token++) {
      this.#wasm.addInto(x.byteOffset + 4 * token * bias.size, bias.byteOffset, bias.size);
    }
  }

  /** Rows of `table` [L, D], which holds token ids from `firstId` on, for ids [T] (i32); zeros for ids beyond it. */
  embed(ids: Tensor, table: Tensor, firstId: number, out: Tensor): void {
    const [length = 0, dim = 0] = table.shape;
    expectRows(out, dim, ids.size, "embed", "out");
    const { byteOffset } = table;
    this.#wasm.embed(ids.byteOffset, byteOffset, out.byteOffset, ids.size, dim, firstId, firstId + length);
  }

  /** Index of the largest value, the first among equals; -1 when there is none, or when one is NaN or infinite. */
  argmax(values: Tensor): number {
    return this.#wasm.argmax(values.byteOffset, values.size);
  }

  /** Copies a strided [R, C] view of 16- or 32-bit floats into a contiguous f32 tensor of that shape. */
  widen(from: Tensor, to: Tensor): void {
    const [count = 0, cols = 0] = from.shape;
    expectRows(to, cols, count, "widen", "to");
    const stride = from.stride(0) * from.elements.BYTES_PER_ELEMENT;
    const args = [from.byteOffset, stride, to.byteOffset, count, cols] as const;
    if (from.dtype === "bf16") this.#wasm.widenBf16(...args);
    else if (from.dtype === "f16") this.#wasm.widenF16(...args);
    else if (from.dtype === "f32") this.#wasm.widenF32(...args);
    else throw new ArgumentError("Layers.widen", "from", "f32, f16 or bf16", from.dtype);
  }
}

/** Number of rows of `size` elements in a tensor. */
function rows(tensor: Tensor, size: number, operation: string, argument: string): number {
  const count = size === 0 ? 0 : tensor.size / size;
  expectRows(tensor, size, Math.floor(count), operation, argument);
  return count;
}

function expectRows(tensor: Tensor, size: number, count: number, operation: string, argument: string): void {
  if (tensor.size !== size * count || tensor.dtype !== "f32" || !tensor.isContiguous) {
    const expected = `${count} contiguous rows of ${size} f32`;
    throw new ArgumentError(`Layers.${operation}`, argument, expected, tensor.toString());
  }
}
