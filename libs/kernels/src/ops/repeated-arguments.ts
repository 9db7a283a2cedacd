import { GpuTensor } from "../gpu-tensor.ts";
import type { Operand } from "../operand.ts";
import { JoinedParts } from "../webgpu/joined-parts.ts";

/** A copy of arguments that shows whether others are the same. */
interface Snapshot {
  readonly names: readonly string[];
  readonly values: readonly unknown[];
}

/**
 * What was made of arguments whose operands lie on a GPU, for when the same come again, as most do at every step of a
 * model: tensors are the same objects and not freed, and numbers and lists of them are equal.
 */
export class RepeatedArguments<Value> {
  readonly #without: string | undefined;
  readonly #known = new WeakMap<Operand, { readonly list: readonly Snapshot[]; readonly value: Value }>();

  /**
   * Knows nothing yet.
   * @param without an argument that may be another each time, and is the caller's to look at
   */
  constructor(without?: string) {
    this.#without = without;
  }

  /**
   * What was noted for the arguments of one or more calls; undefined for others than were noted last with this key.
   * @param key an operand of the first call, by which they are found
   */
  find(key: Operand, list: readonly object[]): Value | undefined {
    const known = this.#known.get(key);
    if (known === undefined || known.list.length !== list.length) return undefined;
    for (let at = 0; at < list.length; at++) {
      const [snapshot, args] = [known.list[at], list[at]];
      if (snapshot === undefined || args === undefined || !this.#matches(snapshot, args)) return undefined;
    }
    return known.value;
  }

  /** Notes what `make` makes of arguments, unless they hold what can change unseen, such as heap tensors. */
  note(key: Operand, list: readonly object[], make: () => Value): void {
    const snapshots = list.map((args) => this.#snapshot(args)).filter((one) => one !== undefined);
    if (snapshots.length === list.length) this.#known.set(key, { list: snapshots, value: make() });
  }

  #snapshot(args: object): Snapshot | undefined {
    const names: string[] = [];
    const values: unknown[] = [];
    for (const [name, value] of Object.entries(args)) {
      if (value === undefined || name === this.#without) continue;
      const copy = copyOf(value);
      if (copy === UNREPEATABLE) return undefined;
      names.push(name);
      values.push(copy);
    }
    return { names, values };
  }

  #matches({ names, values }: Snapshot, args: object): boolean {
    const given = args as Readonly<Record<string, unknown>>;
    let count = 0;
    for (const name in given) if (given[name] !== undefined && name !== this.#without) count++;
    if (count !== names.length) return false;
    for (let at = 0; at < names.length; at++) if (!isSame(values[at], given[names[at] ?? ""])) return false;
    return true;
  }
}

const UNREPEATABLE = Symbol("may change unseen");

function copyOf(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return typeof value === "function" ? UNREPEATABLE : value;
  if (value instanceof GpuTensor) return value.memory instanceof JoinedParts ? UNREPEATABLE : value;
  if (value instanceof Int32Array) return value.slice();
  if (Array.isArray(value)) {
    const copies = value.map(copyOf);
    return copies.includes(UNREPEATABLE) ? UNREPEATABLE : copies;
  }
  if (Object.getPrototypeOf(value) !== Object.prototype) return UNREPEATABLE;
  const copies = Object.entries(value).map(([name, part]) => [name, copyOf(part)] as const);
  return copies.some(([, copy]) => copy === UNREPEATABLE) ? UNREPEATABLE : Object.fromEntries(copies);
}

function isSame(copy: unknown, value: unknown): boolean {
  if (copy instanceof GpuTensor) return copy === value && !copy.isFreed;
  if (typeof copy !== "object" || copy === null) return Object.is(copy, value);
  if (copy instanceof Int32Array) return value instanceof Int32Array && haveSameItems(copy, value);
  if (Array.isArray(copy)) return Array.isArray(value) && haveSameItems(copy, value);
  if (typeof value !== "object" || value === null || Object.getPrototypeOf(value) !== Object.prototype) return false;
  const [names, given] = [Object.keys(copy), Object.keys(value)];
  const [a, b] = [copy as Readonly<Record<string, unknown>>, value as Readonly<Record<string, unknown>>];
  return names.length === given.length && names.every((name) => name in b && isSame(a[name], b[name]));
}

function haveSameItems(a: ArrayLike<unknown>, b: ArrayLike<unknown>): boolean {
  if (a.length !== b.length) return false;
  for (let at = 0; at < a.length; at++) if (!isSame(a[at], b[at])) return false;
  return true;
}
