import { ArgumentError, compileWasmNow, type SharedHeap, type Tensor } from "@lockstep/tensor";
import { expectContiguous, expectRows, rowsOf, scalesOf, unknownDType } from "./check-operands.ts";
import type { LayerExports, LayerOperations } from "./layer-exports.ts";
import { LayerProgram, type RecordedLayer, recorderOf } from "./layer-program.ts";
import { LAYERS_WASM } from "./layers.wasm.ts";
import { type InputRoom, LinearScratch, quantisedBytes } from "./linear-scratch.ts";
import { mergedLayers } from "./merge-layers.ts";
import type { Weight } from "./weight.ts";

/** Angles by which pairs of dimensions turn from one position to the next, where {@link Layers.rotations} reads them. */
export interface RotaryTurns {
  /** Radians a position [D / 2], f32. */
  readonly frequencies: Tensor;
  /** What cosines and sines are multiplied by: the eight bytes of one f64, as two i32. */
  readonly amplitude: Tensor;
}

/** Compiled once per thread. */
let compiled: WebAssembly.Module | undefined;

/**
 * The layers of a transformer besides attention, computed in place on one rank's shared heap by layers.as.ts.
 * Tensors are contiguous and f32 unless said otherwise.
 */
export class Layers {
  readonly #wasm: LayerExports;
  readonly #heap: SharedHeap;
  /** Where layers that can be recorded go: they run or, while a program is recorded, are taken down. */
  #operations: LayerOperations;
  readonly #scratch: LinearScratch | undefined;

  private constructor(wasm: LayerExports, heap: SharedHeap, scratch: LinearScratch | undefined) {
    this.#wasm = wasm;
    this.#operations = wasm;
    this.#heap = heap;
    this.#scratch = scratch;
  }

  /**
   * Instantiates the layers over a heap's memory.
   * @param room what linear layers are to take in: their scratch memory is allocated here, once; without it there are
   *   none
   */
  static open(heap: SharedHeap, room?: InputRoom | undefined): Layers {
    compiled ??= compileWasmNow(LAYERS_WASM);
    const instance = new WebAssembly.Instance(compiled, { env: { memory: heap.memory } });
    const scratch = room === undefined ? undefined : new LinearScratch(heap, room);
    return new Layers(instance.exports as unknown as LayerExports, heap, scratch);
  }

  /**
   * What `layers` calls of linear, rmsNorm, rotate, rotations, swiGlu, addInto, addBias and embed, as a program: their
   * operands are checked now, and nothing is computed. Products of one input may become one ({@link mergedLayers}),
   * with the same bits. Its memory comes from the heap.
   * @throws what they throw, HeapExhausted
   */
  record(layers: () => void): LayerProgram {
    const recorded: RecordedLayer[] = [];
    const before = this.#operations;
    this.#operations = recorderOf(recorded);
    try {
      layers();
    } finally {
      this.#operations = before;
    }
    return new LayerProgram(this.#wasm.runProgram, this.#heap, mergedLayers(recorded));
  }

  /**
   * y [T, O] = x [T, I] times the transpose of weight [O, I]. Weights in bf16 and f16 give the bits that the same
   * weights in f32 give. With int8 weights x is quantised to 15 bits in groups of 32; a token with a NaN or an infinity
   * becomes NaN.
   */
  linear(x: Tensor, weight: Weight, y: Tensor): void {
    const { values } = weight;
    const [outs = 0, ins = 0] = values.shape;
    const tokens = ins === 0 ? rowsOf(y, outs, "linear", "y") : rowsOf(x, ins, "linear", "x");
    expectRows(x, ins, tokens, "linear", "x");
    expectRows(y, outs, tokens, "linear", "y");
    const compute = this.#linearOf(weight, outs, ins);
    const block = this.#scratch?.blockTokens ?? 0;
    for (let token = 0; token < tokens; token += block) {
      const [from, to] = [x.byteOffset + 4 * token * ins, y.byteOffset + 4 * token * outs];
      compute(from, to, Math.min(block, tokens - token));
    }
  }

  /** What computes some tokens with these weights, given the byte offsets of their x and y. */
  #linearOf(weight: Weight, outs: number, ins: number): (x: number, y: number, tokens: number) => void {
    const { values } = weight;
    const operations = this.#operations;
    if (this.#scratch === undefined) {
      throw new ArgumentError("Layers.linear", "room", "given where linear layers are computed", "no room");
    }
    const scratch = this.#scratch.place(ins);
    const at = values.byteOffset;
    switch (values.dtype) {
      case "f32":
        return (x, y, tokens) => operations.linearF32(x, at, y, tokens, outs, ins, scratch);
      case "bf16":
        return (x, y, tokens) => operations.linearBf16(x, at, y, tokens, outs, ins, scratch);
      case "f16":
        return weight.isFinite === true
          ? (x, y, tokens) => operations.linearFiniteF16(x, at, y, tokens, outs, ins, scratch)
          : (x, y, tokens) => operations.linearF16(x, at, y, tokens, outs, ins, scratch);
      case "i8": {
        const scales = scalesOf(weight, "linear").byteOffset;
        return (x, y, tokens) => {
          const inputScales = scratch + quantisedBytes(tokens, ins);
          operations.quantiseInputs(x, scratch, inputScales, tokens, ins);
          operations.linearInt8(scratch, inputScales, at, scales, y, tokens, outs, ins);
        };
      }
      default:
        throw unknownDType("linear", "weight", values);
    }
  }

  /** y [T, D] = x [T, D] normalised to a root mean square of 1, times weight [D]. `y` may be `x`. */
  rmsNorm(x: Tensor, weight: Tensor, y: Tensor, eps: number): void {
    const dim = weight.size;
    const tokens = rowsOf(x, dim, "rmsNorm", "x");
    expectRows(y, dim, tokens, "rmsNorm", "y");
    this.#operations.rmsNorm(x.byteOffset, weight.byteOffset, y.byteOffset, tokens, dim, eps);
  }

  /** Turns the heads of x [T, H, D] by the angles whose cosines and sines are [T, D / 2]. */
  rotate(x: Tensor, cosines: Tensor, sines: Tensor): void {
    const [tokens = 0, heads = 0, dim = 0] = x.shape;
    rowsOf(x, heads * dim, "rotate", "x");
    expectRows(cosines, dim / 2, tokens, "rotate", "cosines");
    expectRows(sines, dim / 2, tokens, "rotate", "sines");
    this.#operations.rotate(x.byteOffset, cosines.byteOffset, sines.byteOffset, tokens, heads, dim / 2);
  }

  /**
   * Cosines and sines [T, D / 2] of the angles position * frequency, times an amplitude, for positions [T] (i32), from
   * 0 and below 2^20 radians.
   */
  rotations(positions: Tensor, turns: RotaryTurns, cosines: Tensor, sines: Tensor): void {
    const { frequencies, amplitude } = turns;
    const half = frequencies.size;
    const tokens = positions.size;
    if (positions.dtype !== "i32" || !positions.isContiguous) {
      throw new ArgumentError("Layers.rotations", "positions", "contiguous i32", positions.toString());
    }
    expectRows(frequencies, half, 1, "rotations", "frequencies");
    if (amplitude.dtype !== "i32" || amplitude.size !== 2 || !amplitude.isContiguous) {
      const expected = "the eight bytes of an f64, as 2 contiguous i32";
      throw new ArgumentError("Layers.rotations", "amplitude", expected, amplitude.toString());
    }
    expectRows(cosines, half, tokens, "rotations", "cosines");
    expectRows(sines, half, tokens, "rotations", "sines");
    const { byteOffset } = positions;
    const to = [cosines.byteOffset, sines.byteOffset] as const;
    this.#operations.rotations(byteOffset, frequencies.byteOffset, amplitude.byteOffset, ...to, tokens, half);
  }

  /** out = silu(gate) * up, element by element; `out` may be either. */
  swiGlu(gate: Tensor, up: Tensor, out: Tensor): void {
    expectRows(up, gate.size, 1, "swiGlu", "up");
    expectRows(out, gate.size, 1, "swiGlu", "out");
    this.#operations.swiGlu(gate.byteOffset, up.byteOffset, out.byteOffset, gate.size);
  }

  /** x += y. */
  addInto(x: Tensor, y: Tensor): void {
    expectRows(y, x.size, 1, "addInto", "y");
    this.#operations.addInto(x.byteOffset, y.byteOffset, x.size);
  }

  /** Adds `bias` [D] to every row of x [T, D]. */
  addBias(x: Tensor, bias: Tensor): void {
    const tokens = rowsOf(x, bias.size, "addBias", "x");
    expectRows(bias, bias.size, 1, "addBias", "bias");
    for (let token = 0; token < tokens; token++) {
      this.#operations.addInto(x.byteOffset + 4 * token * bias.size, bias.byteOffset, bias.size);
    }
  }

  /** Rows of `table` [L, D], which holds token ids from `firstId` on, for ids [T] (i32); zeros for ids beyond it. */
  embed(ids: Tensor, table: Weight, firstId: number, out: Tensor): void {
    const { values } = table;
    const [length = 0, dim = 0] = values.shape;
    expectRows(out, dim, ids.size, "embed", "out");
    const rest = [out.byteOffset, ids.size, dim, firstId, firstId + length] as const;
    if (values.dtype === "i8") {
      this.#operations.embedInt8(ids.byteOffset, values.byteOffset, scalesOf(table, "embed").byteOffset, ...rest);
    } else if (values.dtype === "f32") this.#operations.embedF32(ids.byteOffset, values.byteOffset, ...rest);
    else if (values.dtype === "bf16") this.#operations.embedBf16(ids.byteOffset, values.byteOffset, ...rest);
    else if (values.dtype === "f16") this.#operations.embedF16(ids.byteOffset, values.byteOffset, ...rest);
    else throw unknownDType("embed", "table", values);
  }

  /**
   * Index of the largest value of a row of values [R, V], the first among equals; -1 when there is none, or when one is
   * NaN or infinite.
   */
  argmax(values: Tensor, row: number): number {
    const [count = 0, width = 0] = values.shape;
    expectRows(values, width, count, "argmax", "values");
    if (!Number.isInteger(row) || row < 0 || row >= count) {
      throw new ArgumentError("Layers.argmax", "row", `an integer from 0 to ${count - 1}`, `${row}`);
    }
    return this.#wasm.argmax(values.byteOffset + 4 * row * width, width);
  }

  /** Whether none of a contiguous f16 tensor's elements is NaN or infinite. */
  isFinite(values: Tensor): boolean {
    expectContiguous(values, "isFinite", "values");
    if (values.dtype !== "f16") throw new ArgumentError("Layers.isFinite", "values", "f16", values.dtype);
    return this.#wasm.isFiniteF16(values.byteOffset, values.size) !== 0;
  }

  /** Copies f32, bf16 or f16 into an f32 tensor of as many elements, both contiguous. */
  widen(from: Tensor, to: Tensor): void {
    expectRows(to, from.size, 1, "widen", "to");
    expectContiguous(from, "widen", "from");
    const args = [from.byteOffset, to.byteOffset, from.size] as const;
    if (from.dtype === "f32") this.#wasm.widenF32(...args);
    else if (from.dtype === "bf16") this.#wasm.widenBf16(...args);
    else if (from.dtype === "f16") this.#wasm.widenF16(...args);
    else throw unknownDType("widen", "from", from);
  }

  /**
   * Quantises rows [R, C] of f32, bf16 or f16 into `to`, rows of int8 with their scales: scale = max|w| / 127 of each
   * group of 32, w / scale rounded to the nearest integer, ties to even; a group of zeros has scale 0.
   * @returns the index of the first row with a NaN or an infinity, where it stopped; -1 when there is none
   */
  quantise(from: Tensor, to: Weight): number {
    const { values } = to;
    const [count = 0, cols = 0] = from.shape;
    expectContiguous(from, "quantise", "from");
    if (values.dtype !== "i8" || values.size !== from.size || values.dim(-1) !== cols || !values.isContiguous) {
      const expected = `${count} contiguous rows of ${cols} i8`;
      throw new ArgumentError("Layers.quantise", "to", expected, values.toString());
    }
    const scales = scalesOf(to, "quantise");
    const args = [from.byteOffset, values.byteOffset, scales.byteOffset, count, cols] as const;
    if (from.dtype === "f32") return this.#wasm.quantiseF32(...args);
    if (from.dtype === "bf16") return this.#wasm.quantiseBf16(...args);
    if (from.dtype === "f16") return this.#wasm.quantiseF16(...args);
    throw unknownDType("quantise", "from", from);
  }
}
