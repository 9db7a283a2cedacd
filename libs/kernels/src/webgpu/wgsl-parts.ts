// Operands of several alike ops that one dispatch runs, its parts: those of one kind lie in one binding where they can,
// else each part's in one of its own.
import { ParamTable } from "./param-table.ts";
import { type Region, regionsOverlap } from "./region.ts";

/** Operands of one kind, of each part. */
export interface BoundParts {
  /** What is bound: one region for all parts, or one for each. */
  readonly bound: readonly Region[];
  /** Elements from the start of what is bound to a part's first. */
  readonly firsts: readonly number[];
}

/**
 * How the operands of a kind are bound.
 * @param regions of each part
 * @param width bytes of an element
 * @param mostBindable bytes of the largest region that the device binds
 */
export function bindParts(regions: readonly Region[], width: number, mostBindable: number): BoundParts {
  const [one] = regions;
  if (one === undefined || regions.length === 1) return { bound: regions, firsts: regions.map(({ first }) => first) };
  const offset = Math.min(...regions.map((region) => region.offset));
  const size = Math.max(...regions.map((region) => region.offset + region.size)) - offset;
  const isOne = regions.every(({ home }) => home === one.home) && size <= mostBindable;
  if (!isOne) return { bound: regions, firsts: regions.map(({ first }) => first) };
  // Regions begin at multiples of the alignment, and so at whole elements of each other.
  const firsts = regions.map((region) => region.first + (region.offset - offset) / width);
  return { bound: [{ ...one, offset, size, first: 0 }], firsts };
}

/** True when a dispatch may write all of these. */
export function areApart(regions: readonly Region[]): boolean {
  return regions.every((one, index) => regions.slice(0, index).every((other) => !regionsOverlap(one, other)));
}

/** A WGSL function of an operand, `NAME_OPERAND(i, ...)`. */
export interface OperandFunction {
  readonly name: string;
  /** What follows the index: `value: f32`. */
  readonly value?: { readonly name: string; readonly type: string };
  /** What it returns. */
  readonly result?: string;
}

/**
 * WGSL: an operand of each part, and for each of its functions `NAME_OPERAND_of(part, i, ...)`.
 * @param first the first of its bindings
 * @param bindings how many: one for all parts, or one for each
 * @param declared the WGSL of an operand of a name and a binding
 */
export function operandOfParts(
  operand: string,
  first: number,
  bindings: number,
  declared: (operand: string, binding: number) => string,
  functions: readonly OperandFunction[],
): string {
  const isOne = bindings === 1;
  const names = Array.from({ length: bindings }, (_, part) => (isOne ? operand : `${operand}_${part}`));
  const chosen = functions.map(({ name, value, result }) => {
    const [parameter, argument] =
      value === undefined ? ["", ""] : [`, ${value.name}: ${value.type}`, `, ${value.name}`];
    const calls = names.map((of) => `${result === undefined ? "" : "return "}${name}_${of}(i${argument});`);
    const body = isOne ? (calls[0] ?? "") : switchOf(calls);
    const returns = result === undefined ? "" : ` -> ${result}`;
    return `fn ${name}_${operand}_of(part: u32, i: u32${parameter})${returns} { ${body} }`;
  });
  return [...names.map((name, part) => declared(name, first + part)), ...chosen].join("\n");
}

/** WGSL: statement `part` of these. */
function switchOf(statements: readonly string[]): string {
  const last = statements.length - 1;
  const cases = statements.map((statement, part) => `${part === last ? "default" : `case ${part}u`}: { ${statement} }`);
  return `switch part { ${cases.join(" ")} }`;
}

/**
 * Groups that one dispatch each can run, in the order in which their first come.
 * @param keyOf the same for what is alike
 * @param fits whether a device binds what several take
 */
export function alikeParts<T>(
  list: readonly T[],
  keyOf: (one: T) => string,
  fits: (parts: readonly T[]) => boolean,
): T[][] {
  const groups: T[][] = [];
  /** The last group of a key. */
  const open = new Map<string, T[]>();
  for (const one of list) {
    const key = keyOf(one);
    const group = open.get(key);
    if (group !== undefined && fits([...group, one])) group.push(one);
    else {
      const begun = [one];
      groups.push(begun);
      open.set(key, begun);
    }
  }
  return groups;
}

/** A kernel of several parts, whose parameters are some that all parts share, and a struct for each part. */
export interface PartsKernel {
  /** The WGSL for so many parts. */
  wgsl(parts: number): string;
  /** Packs parameters; the words are good until the next call. */
  pack(shared: Readonly<Record<string, number>>, parts: readonly Readonly<Record<string, number>>[]): Uint32Array;
}

/**
 * @param kernel WGSL, in which PARTS_OF_PARAMS stands for the last fields of `Params`, one for each part, and CHOSEN_PART
 *   for the body of a function that returns the one of `part`
 * @param struct the WGSL struct of a part's parameters
 * @param shared fields of `Params` before the parts, in order, in camel case
 * @param ofPart fields of `struct`
 */
export function partsKernel(
  kernel: string,
  struct: string,
  shared: readonly string[],
  ofPart: readonly string[],
): PartsKernel {
  const nameOf = (part: number, name: string): string => `part${part}${name[0]?.toUpperCase()}${name.slice(1)}`;
  const wgsl = (parts: number): string => {
    const numbers = Array.from({ length: parts }, (_, part) => part);
    return kernel
      .replace("PARTS_OF_PARAMS", numbers.map((part) => `part_${part}: ${struct},`).join("\n  "))
      .replace("CHOSEN_PART", switchOf(numbers.map((part) => `return params.part_${part};`)));
  };
  const tables = new Map<number, ParamTable<string>>();
  const tableOf = (parts: number): ParamTable<string> => {
    const known = tables.get(parts);
    if (known !== undefined) return known;
    const names = Array.from({ length: parts }, (_, part) => ofPart.map((name) => nameOf(part, name)));
    const table = new ParamTable<string>(wgsl(parts), [...shared, ...names.flat()]);
    tables.set(parts, table);
    return table;
  };
  return {
    wgsl,
    pack: (values, parts) => {
      const all: Record<string, number> = { ...values };
      for (const [part, own] of parts.entries()) for (const name of ofPart) all[nameOf(part, name)] = own[name] ?? 0;
      return tableOf(parts.length).pack(all);
    },
  };
}
