// What the WebAssembly module of the layers exports.
import type { RecordableLayer, RunProgram } from "./layer-program.ts";

type Linear = (
  x: number,
  weight: number,
  y: number,
  tokens: number,
  outs: number,
  ins: number,
  scratch: number,
) => void;
type Embed = (
  ids: number,
  table: number,
  out: number,
  tokens: number,
  dim: number,
  first: number,
  last: number,
) => void;
type Widen = (from: number, to: number, count: number) => void;
type Quantise = (from: number, to: number, scales: number, rows: number, cols: number) => number;

/** Exports of layers.as.ts: byte offsets and counts. */
export interface LayerExports {
  readonly linearF32: Linear;
  readonly linearBf16: Linear;
  readonly linearF16: Linear;
  readonly linearFiniteF16: Linear;
  linearInt8(
    integers: number,
    scales: number,
    weight: number,
    weightScales: number,
    y: number,
    tokens: number,
    outs: number,
    ins: number,
  ): void;
  quantiseInputs(x: number, integers: number, scales: number, tokens: number, ins: number): void;
  rmsNorm(x: number, weight: number, y: number, tokens: number, dim: number, eps: number): void;
  rotate(x: number, cosines: number, sines: number, tokens: number, heads: number, half: number): void;
  rotations(
    positions: number,
    frequencies: number,
    amplitude: number,
    cosines: number,
    sines: number,
    tokens: number,
    half: number,
  ): void;
  swiGlu(gate: number, up: number, out: number, count: number): void;
  addInto(x: number, y: number, count: number): void;
  readonly embedF32: Embed;
  readonly embedBf16: Embed;
  readonly embedF16: Embed;
  embedInt8(
    ids: number,
    table: number,
    scales: number,
    out: number,
    tokens: number,
    dim: number,
    first: number,
    last: number,
  ): void;
  argmax(values: number, count: number): number;
  isFiniteF16(values: number, count: number): number;
  readonly widenF32: Widen;
  readonly widenBf16: Widen;
  readonly widenF16: Widen;
  readonly quantiseF32: Quantise;
  readonly quantiseBf16: Quantise;
  readonly quantiseF16: Quantise;
  readonly runProgram: RunProgram;
}

/** What of it a program of layers is made of. */
export type LayerOperations = Pick<LayerExports, RecordableLayer>;
