// Collects the cases of the corpus, and makes of them the bytes of its files.
import { createHash } from "node:crypto";
import { encodeSafetensors, SharedHeap, Tensor } from "@lockstep/tensor";
import { CORPUS_FORMAT, CORPUS_VERSION } from "../../src/corpus/manifest.ts";
import { type OpName, OPS } from "../../src/corpus/ops.ts";
import { TOLERANCES } from "../../src/corpus/tolerances.ts";
import { type Inputs, type OpParameters, type Outputs, sizeOf, type Values } from "./corpus-values.ts";
import { FLOAT64_OPS } from "./float64-ops.ts";
import { MISTAKES } from "./mistakes.ts";

/** One case as its author gives it; its outputs are computed. */
export interface CaseSpec {
  readonly name: string;
  readonly op: OpName;
  readonly parameters: OpParameters;
  readonly inputs: Inputs;
  /** Why an implementation must throw instead of giving a result. */
  readonly refuse?: string;
}

interface Wrong {
  readonly mistakes: string[];
  readonly outputs: Outputs;
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
  readonly #specs = new Map<string, CaseSpec>();

  /** All cases by name. */
  get specs(): ReadonlyMap<string, CaseSpec> {
    return this.#specs;
  }

  /** Adds a case. An input that another case brought already, as the same object, is stored once. */
  add(spec: CaseSpec): void {
    if (this.#specs.has(spec.name)) throw new Error(`two cases are named ${spec.name}`);
    this.#specs.set(spec.name, spec);
    const { name, op, parameters } = spec;
    const file = `${OPS[op].file}.safetensors`;
    const put = (part: string, values: Values): string => this.#put(file, `${name}.${part}`, values);
    const inputs = Object.fromEntries(Object.entries(spec.inputs).map(([part, values]) => [part, put(part, values)]));
    if (spec.refuse !== undefined) {
      this.#cases.push({ name, op, file, parameters, inputs, refuse: spec.refuse });
      return;
    }
    const right = FLOAT64_OPS[op].compute(parameters, spec.inputs);
    const outputs = Object.fromEntries(
      Object.entries(right).map(([part, values]) => {
        return [part, { tensor: put(part, values), tolerance: values.tolerance }];
      }),
    );
    const wrong = this.#distinct(spec, right).map(({ mistakes, outputs: wrongOutputs }, index) => {
      const tensors = Object.entries(wrongOutputs).map(([part, values]) => {
        const isRight = distance({ [part]: values }, right) === 0;
        return [part, isRight ? outputs[part]?.tensor : put(`wrong${index}.${part}`, values)];
      });
      return { mistakes, outputs: Object.fromEntries(tensors) };
    });
    this.#cases.push({ name, op, file, parameters, inputs, outputs, wrong });
  }

  /** The names and bytes of all files. */
  build(): Map<string, Uint8Array> {
    const files = new Map<string, Uint8Array>();
    const sums: Record<string, unknown> = {};
    for (const [name, tensors] of this.#files) {
      const bytes = encodeSafetensors(tensors);
      files.set(name, bytes);
      sums[name] = { bytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
    }
    const manifest = {
      format: CORPUS_FORMAT,
      version: CORPUS_VERSION,
      case_count: this.#cases.length,
      files: sums,
      tolerances: TOLERANCES,
      ops: Object.fromEntries(Object.entries(OPS).map(([op, { does, fails }]) => [op, { does, fails }])),
      mistakes: MISTAKES,
    };
    // A case a line, so that a difference of two versions can be read.
    const head = JSON.stringify(manifest, undefined, 1).slice(0, -2);
    const cases = this.#cases.map((each) => `  ${JSON.stringify(each)}`).join(",\n");
    files.set("manifest.json", new TextEncoder().encode(`${head},\n "cases": [\n${cases}\n ]\n}\n`));
    return files;
  }

  #put(file: string, name: string, values: Values): string {
    const known = this.#names.get(values);
    if (known !== undefined) return known;
    this.#names.set(values, name);
    if (values.numbers.length !== sizeOf(values.shape)) throw new Error(`${name} is not of shape ${values.shape}`);
    // Engines store NaN results with different signs.
    const numbers = Float64Array.from(values.numbers, (number) => (Number.isNaN(number) ? Number.NaN : number));
    const tensor = Tensor.from(this.#heap, values.dtype, values.shape, numbers);
    const tensors = this.#files.get(file) ?? [];
    tensors.push([name, tensor]);
    this.#files.set(file, tensors);
    return name;
  }

  /** The wrong outputs that show, those that are alike under several names. */
  #distinct({ name, op, parameters, inputs }: CaseSpec, right: Outputs): Wrong[] {
    const kept: Wrong[] = [];
    for (const mistake of new Set(FLOAT64_OPS[op].mistakes)) {
      if (!(mistake in MISTAKES)) throw new Error(`${name}: ${mistake} is not in the list of mistakes`);
      const outputs = FLOAT64_OPS[op].compute(parameters, inputs, mistake);
      if (distance(outputs, right) < SHOWS) continue;
      const alike = kept.find((other) => distance(outputs, other.outputs) <= ALIKE);
      if (alike === undefined) kept.push({ mistakes: [mistake], outputs });
      else alike.mistakes.push(mistake);
    }
    return kept;
  }
}

/** The largest distance of outputs from others of the same names, in tolerances; Infinity for another shape. */
export function distance(outputs: Outputs, from: Outputs): number {
  let most = 0;
  for (const [name, { numbers: left, shape, tolerance }] of Object.entries(outputs)) {
    const other = from[name];
    if (other === undefined || other.shape.join() !== shape.join()) return Number.POSITIVE_INFINITY;
    const { atol, rtol } = TOLERANCES[tolerance];
    for (let index = 0; index < left.length; index++) {
      const [x = Number.NaN, y = Number.NaN] = [left[index], other.numbers[index]];
      if (Object.is(x, y) || x === y) continue;
      const error = Math.abs(x - y) / (atol + rtol * Math.abs(y));
      most = Math.max(most, Number.isNaN(error) ? Number.POSITIVE_INFINITY : error);
    }
  }
  return most;
}
