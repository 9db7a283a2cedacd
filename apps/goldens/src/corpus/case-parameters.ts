import { CorpusError } from "./corpus-error.ts";
import { field, isObject, type JsonObject } from "./json-fields.ts";

/**
 * The parameters of a case, each of its kind. Values are not judged here: what the library must refuse has to reach it.
 */
export class CaseParameters {
  readonly #path: string;
  readonly #name: string;
  readonly #fields: JsonObject;
  readonly #read = new Set<string>();

  /** @param path of the manifest, @param name of the case: for errors */
  constructor(path: string, name: string, fields: JsonObject) {
    this.#path = path;
    this.#name = name;
    this.#fields = fields;
  }

  /** A number, or undefined. @throws CorpusError */
  number(name: string): number | undefined {
    const value = this.#take(name);
    if (value === undefined || typeof value === "number") return value;
    throw this.#bad(name, "a number");
  }

  /** One of some texts; the first when it is left out. @throws CorpusError */
  choice<T extends string>(name: string, first: T, ...others: readonly T[]): T {
    const value = this.#take(name);
    if (value === undefined) return first;
    const found = [first, ...others].find((choice) => choice === value);
    if (found === undefined) throw this.#bad(name, `one of ${[first, ...others].join(", ")}`);
    return found;
  }

  /** Whether it is given. */
  has(name: string): boolean {
    return this.#take(name) !== undefined;
  }

  /** A list of numbers, or undefined. @throws CorpusError */
  numbers(name: string): readonly number[] | undefined {
    const value = this.#take(name);
    if (value === undefined) return undefined;
    if (Array.isArray(value) && value.every((item) => typeof item === "number")) return value;
    throw this.#bad(name, "a list of numbers");
  }

  /** What padding is filled with. @throws CorpusError */
  pad(): number {
    const value = this.#take("pad") ?? "-inf";
    if (value === "-inf") return Number.NEGATIVE_INFINITY;
    if (typeof value === "number") return value;
    throw this.#bad("pad", 'a number or "-inf"');
  }

  /** How query heads share KV heads, or undefined. @throws CorpusError */
  headGroup(): { readonly size: number; readonly offset: number } | undefined {
    const value = this.#take("head_group");
    if (value === undefined) return undefined;
    const [size, offset] = isObject(value) ? [field(value, "size"), field(value, "offset")] : [];
    if (typeof size === "number" && typeof offset === "number") return { size, offset };
    throw this.#bad("head_group", "an object of size and offset");
  }

  /** Throws CorpusError when there is one that nobody has asked for: it would have been ignored. */
  expectAllRead(): void {
    const other = Object.keys(this.#fields).find((name) => !this.#read.has(name));
    if (other !== undefined) {
      throw new CorpusError(this.#path, `expected ${this.#name} to have only known parameters, but found \`${other}\``);
    }
  }

  #take(name: string): unknown {
    this.#read.add(name);
    return field(this.#fields, name);
  }

  #bad(name: string, expected: string): CorpusError {
    return new CorpusError(this.#path, `expected \`${name}\` of ${this.#name} to be ${expected}`);
  }
}
