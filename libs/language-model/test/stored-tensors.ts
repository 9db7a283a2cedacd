// The tensors of a model folder as float64 numbers, read from its safetensors files when they are asked for: what a
// float64 pass over a checkpoint of any size reads. Shares no code with the library.
import { closeSync, openSync, readdirSync, readSync } from "node:fs";
import { join } from "node:path";

interface StoredTensor {
  readonly file: number;
  readonly start: number;
  readonly dtype: "F32" | "F16" | "BF16";
  readonly shape: readonly number[];
}

const BYTES = { F32: 4, F16: 2, BF16: 2 } as const;

export class StoredTensors implements Disposable {
  readonly #tensors = new Map<string, StoredTensor>();
  readonly #files: number[] = [];
  #bytes = new Uint8Array();

  /** Opens every safetensors file of a folder. Reads their headers alone. */
  constructor(folder: string) {
    for (const name of readdirSync(folder).filter((file) => file.endsWith(".safetensors"))) {
      const file = openSync(join(folder, name), "r");
      this.#files.push(file);
      const length = Number(new DataView(read(file, 0, new Uint8Array(8)).buffer).getBigUint64(0, true));
      const header = JSON.parse(new TextDecoder().decode(read(file, 8, new Uint8Array(length))));
      for (const [key, entry] of Object.entries<{ dtype: string; shape: number[]; data_offsets: number[] }>(header)) {
        if (key === "__metadata__") continue;
        const { dtype, shape, data_offsets } = entry;
        if (dtype !== "F32" && dtype !== "F16" && dtype !== "BF16") throw new Error(`${key} is stored in ${dtype}`);
        this.#tensors.set(key, { file, start: 8 + length + (data_offsets[0] ?? 0), dtype, shape });
      }
    }
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  /** Rows and columns; a vector is a row. */
  sizeOf(name: string): { readonly rows: number; readonly cols: number } {
    const { shape } = this.#find(name);
    const cols = shape.at(-1) ?? 1;
    return { rows: shape.slice(0, -1).reduce((product, size) => product * size, 1), cols };
  }

  /** Rows `first` to `first + count`, one after another. */
  rows(name: string, first: number, count: number): Float64Array {
    const { file, start, dtype } = this.#find(name);
    const { cols } = this.sizeOf(name);
    const [length, width] = [count * cols, BYTES[dtype]];
    if (this.#bytes.length < length * width) this.#bytes = new Uint8Array(length * width);
    const bytes = read(file, start + first * cols * width, this.#bytes.subarray(0, length * width));
    if (dtype === "F32") return new Float64Array(new Float32Array(bytes.buffer, 0, length));
    if (dtype === "F16") return new Float64Array(new Float16Array(bytes.buffer, 0, length));
    // A bf16 is the upper half of an f32.
    const halves = new Uint16Array(bytes.buffer, 0, length);
    const bits = new Uint32Array(length);
    for (let index = 0; index < length; index++) bits[index] = (halves[index] ?? 0) << 16;
    return new Float64Array(new Float32Array(bits.buffer));
  }

  [Symbol.dispose](): void {
    for (const file of this.#files) closeSync(file);
  }

  #find(name: string): StoredTensor {
    const found = this.#tensors.get(name);
    if (found === undefined) throw new Error(`no tensor ${name}`);
    return found;
  }
}

function read(file: number, position: number, into: Uint8Array): Uint8Array<ArrayBuffer> {
  for (let done = 0; done < into.length; ) {
    const count = readSync(file, into, done, into.length - done, position + done);
    if (count === 0) throw new Error("a safetensors file ends early");
    done += count;
  }
  return into as Uint8Array<ArrayBuffer>;
}
