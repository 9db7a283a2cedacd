// Collects the cases of the corpus, and makes of them the bytes of its files.
import { createHash } from "node:crypto";
import { type DType, encodeSafetensors, SharedHeap, Tensor } from "@lockstep/tensor";
import { MISTAKES } from "./mistakes.ts";
import { OPS } from "./ops.ts";
import { TOLERANCES, type ToleranceName } from "./tolerances.ts";

/** Numbers of a tensor, row-major, before they are written. */
export interface Values {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly numbers: ArrayLike<number>;
}

/** One case as its author gives it. */
export interface CaseSpec {
  readonly name: string;
  readonly op: keyof typeof OPS;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly inputs: Readonly<Record<string, Values>>;
  readonly outputs: Readonly<Record<string, Values & { readonly tolerance: ToleranceName }>>;
  /** What mistakes make of the outputs. Those that do not show here are left out. */
  readonly wrong: readonly { readonly mistake: string; readonly outputs: Readonly<Record<string, ArrayLike<number>>> }[];
}

interface Wrong {
  readonly mistakes: string[];
  readonly outputs: Readonly<Record<string, ArrayLike<number>>>;
}

/** A wrong output shows when some element is this many tolerances off. */
const SHOWS = 20;
/** Two wrong outputs that are this many tolerances apart or nearer cannot be told apart. */
const ALIKE = 3;

/** The files of the corpus: `build` gives their names and bytes. */
export class CorpusBuilder {
  readonly #heap = SharedHeap.create(64 << 20);
  readonly #files = new Map<string, [name: string, tensor: Tensor][]>();
  readonly #names = new Map<Values, string>();
  readonly #cases: Record<string, unknown>[] = [];
  readonly #caseNames = new Set<string>();
  readonly #shown = new Set<string>();

  /** Adds a case. Values that another case of the same op family brought already are stored once. */
  add(spec: CaseSpec): void {
    if (this.#caseNames.has(spec.name)) throw new Error(`two cases are named ${spec.name}`);
    this.#caseNames.add(spec.name);
    const file = `${OPS[spec.op].file}.safetensors`;
    const put = (name: string, values: Values): string => this.#put(file, `${spec.name}.${name}`, values);
    const inputs = Object.fromEntries(Object.entries(spec.inputs).map(([name, values]) => [name, put(name, values)]));
    const outputs = Object.fromEntries(
      Object.entries(spec.outputs).map(([name, values]) => {
        return [name, { tensor: put(name, values), tolerance: values.tolerance }];
      }),
    );
    const wrong = this.#distinct(spec).map(({ mistakes, outputs: numbers }, index) => {
      const tensors = Object.entries(spec.outputs).map(([name, { dtype, shape }]) => {
        return [name, put(`wrong${index}.${name}`, { dtype, shape, numbers: numbers[name] ?? [] })];
      });
      return { mistakes, outputs: Object.fromEntries(tensors) };
    });
    const { name, op, parameters } = spec;
    this.#cases.push({ name, op, file, parameters, inputs, outputs, wrong });
  }

  /** The names and bytes of all files. @throws Error when a mistake shows nowhere */
  build(): Map<string, Uint8Array> {
    const unseen = Object.keys(MISTAKES).filter((name) => !this.#shown.has(name));
    if (unseen.length > 0) throw new Error(`no case shows ${unseen.join(", ")}`);
    const files = new Map<string, Uint8Array>();
    const sums: Record<string, unknown> = {};
    for (const [name, tensors] of this.#files) {
      const bytes = encodeSafetensors(tensors);
      files.set(name, bytes);
      sums[name] = { bytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
    }
    const manifest = {
      format: "lockstep-dcp-corpus",
      version: 1,
      case_count: this.#cases.length,
      files: sums,
      tolerances: TOLERANCES,
      ops: Object.fromEntries(Object.entries(OPS).map(([op, { does, fails }]) => [op, { does, fails }])),
      mistakes: MISTAKES,
      cases: this.#cases,
    };
    files.set("manifest.json", new TextEncoder().encode(`${printed(manifest)}\n`));
    return files;
  }

  #put(file: string, name: string, values: Values): string {
    const known = this.#names.get(values);
    if (known !== undefined) return known;
    this.#names.set(values, name);
    const tensor = Tensor.from(this.#heap, values.dtype, values.shape, values.numbers);
    const tensors = this.#files.get(file) ?? [];
    tensors.push([name, tensor]);
    this.#files.set(file, tensors);
    return name;
  }

  /** The wrong outputs that show, those that are alike under several names. */
  #distinct(spec: CaseSpec): Wrong[] {
    const kept: Wrong[] = [];
    const right = Object.fromEntries(Object.entries(spec.outputs).map(([name, { numbers }]) => [name, numbers]));
    for (const { mistake, outputs } of spec.wrong) {
      if (!(mistake in MISTAKES)) throw new Error(`${mistake} is not in the list of mistakes`);
      if (distance(spec, outputs, right) < SHOWS) continue;
      const alike = kept.find((other) => distance(spec, outputs, other.outputs) <= ALIKE);
      if (alike === undefined) kept.push({ mistakes: [mistake], outputs });
      else alike.mistakes.push(mistake);
    }
    for (const { mistakes } of kept) {
      if (mistakes.length === 1) for (const mistake of mistakes) this.#shown.add(mistake);
    }
    return kept;
  }
}

/** The largest distance of two sets of outputs, in tolerances. */
function distance(
  spec: CaseSpec,
  a: Readonly<Record<string, ArrayLike<number>>>,
  b: Readonly<Record<string, ArrayLike<number>>>,
): number {
  let most = 0;
  for (const [name, { tolerance, shape }] of Object.entries(spec.outputs)) {
    const [left, right] = [a[name] ?? [], b[name] ?? []];
    const size = shape.reduce((product, length) => product * length, 1);
    if (left.length !== size || right.length !== size) throw new Error(`${spec.name}.${name} is not of ${size} numbers`);
    const { atol, rtol } = TOLERANCES[tolerance];
    for (let index = 0; index < size; index++) {
      const [x = Number.NaN, y = Number.NaN] = [left[index], right[index]];
      if (Object.is(x, y) || x === y) continue;
      const error = Math.abs(x - y) / (atol + rtol * Math.abs(y));
      most = Math.max(most, Number.isNaN(error) ? Number.POSITIVE_INFINITY : error);
    }
  }
  return most;
}

/** JSON with lists of numbers on one line where they fit. */
function printed(manifest: unknown): string {
  return JSON.stringify(manifest, undefined, 1).replace(/\[[-\d,.\se+]*\]/g, (list) => {
    const line = list.replace(/\s+/g, "").replaceAll(",", ", ");
    return line.length <= 80 ? line : list;
  });
}
