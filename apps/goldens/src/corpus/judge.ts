import { type Deviation, NO_DEVIATION, compare, worse } from "../tolerance.ts";
import type { CorpusCase } from "./corpus-case.ts";
import { TOLERANCES, type ToleranceName, toleranceOf } from "./tolerances.ts";

/** A result of an op: what its tensors would hold. */
export interface Computed {
  /** Its name in the file format, such as F32. */
  readonly typeName: string;
  readonly shape: readonly number[];
  readonly numbers: ArrayLike<number>;
}

/** One result of a case, by the names of its outputs. */
export type CaseResults = Readonly<Record<string, Computed>>;

/** How a case went. */
export interface Verdict {
  readonly deviation: Deviation;
  /** Mistakes that give what came, where it is wrong and one of the listed ones does. */
  readonly mistakes: readonly string[];
}

const INFINITELY: Deviation = { maxError: Number.POSITIVE_INFINITY, worst: Number.POSITIVE_INFINITY };
/** What a mistake gives is taken for it when it is at most this many tolerances away. */
const NEAR = 3;

/**
 * Compares results of a case with what is expected. Names, dtypes and shapes are those of the results: an expectation
 * of another kind fails, as does one whose tolerance is not the op's.
 * @param results of all ways that the case was run in; all must be right
 */
export function judge(each: CorpusCase, results: readonly CaseResults[]): Verdict {
  let deviation = results.length === 0 ? INFINITELY : NO_DEVIATION;
  const mistakes = new Set<string>();
  for (const result of results) {
    const own = deviationOf(each, result);
    deviation = worse(deviation, own);
    if (!(own.worst <= 1)) for (const mistake of mistakesOf(each, result)) mistakes.add(mistake);
  }
  return { deviation, mistakes: [...mistakes] };
}

function deviationOf(each: CorpusCase, result: CaseResults): Deviation {
  const names = Object.keys(result);
  if (names.length !== each.outputs.size || names.length === 0) return INFINITELY;
  const dtypes = [...each.inputs.values()].map((tensor) => each.file.stored(tensor).typeName);
  let deviation = NO_DEVIATION;
  for (const [name, { tensor, tolerance }] of each.outputs) {
    const computed = result[name];
    if (computed === undefined || tolerance !== toleranceOf(each.op, name, dtypes)) return INFINITELY;
    const stored = each.file.stored(tensor);
    if (stored.typeName !== computed.typeName || stored.shape.join() !== computed.shape.join()) return INFINITELY;
    deviation = worse(deviation, compareWithin(computed.numbers, each.file.readNumbers(tensor), tolerance));
  }
  return deviation;
}

function compareWithin(actual: ArrayLike<number>, expected: ArrayLike<number>, name: ToleranceName): Deviation {
  const { atol, rtol } = TOLERANCES[name];
  return compare(actual, expected, (x) => atol + rtol * Math.abs(x));
}

/** The mistakes whose results are nearest to what came, if any is near. */
function mistakesOf(each: CorpusCase, result: CaseResults): readonly string[] {
  let nearest: readonly string[] = [];
  let least = NEAR;
  for (const { mistakes, outputs } of each.wrong) {
    let most = 0;
    for (const [name, { tolerance }] of each.outputs) {
      const wrong = outputs.get(name);
      const computed = result[name];
      if (wrong === undefined || computed === undefined) most = Number.POSITIVE_INFINITY;
      else most = Math.max(most, compareWithin(computed.numbers, each.file.readNumbers(wrong), tolerance).worst);
    }
    // An exact tolerance gives 0 / 0 nowhere: what is equal is not divided.
    if (most <= least) [least, nearest] = [most, mistakes];
  }
  return nearest;
}
