// The parameters of a kernel, by name on both sides: a list in TypeScript that is held to the struct `Params` of the
// WGSL.

interface Field {
  readonly name: string;
  readonly type: string;
}

/** Fields of the words that a table packs, in order. */
const FIELDS = new WeakMap<object, readonly Field[]>();

/** What the words are that {@link ParamTable.pack} returned; undefined for others. */
export function fieldsOf(words: object): readonly Field[] | undefined {
  return FIELDS.get(words);
}

/** Fields of a struct of a WGSL source, those of structs within it in their place. Names as in TypeScript. */
function structFields(wgsl: string, struct: string): Field[] {
  const body = new RegExp(`struct ${struct} \\{([^}]*)\\}`).exec(wgsl)?.[1];
  if (body === undefined) throw new Error(`expected a struct ${struct} in the WGSL, but there is none`);
  const fields = Array.from(body.replace(/\/\/.*/g, "").matchAll(/(\w+):\s*(\w+)/g), ([, name = "", type = ""]) => ({
    name: camelCase(name),
    type,
  }));
  return fields.flatMap(({ name, type }) => {
    if (type === "u32" || type === "i32" || type === "f32") return [{ name, type }];
    return structFields(wgsl, type).map((inner) => ({ ...inner, name: camelCase(`${name}_${inner.name}`) }));
  });
}

function camelCase(name: string): string {
  return name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
}

/** Packs a kernel's parameters in the order of its struct `Params`. */
export class ParamTable<const Name extends string> {
  readonly #names: readonly Name[];
  readonly #isFloat: readonly boolean[];
  readonly #words: Uint32Array;
  readonly #floats: Float32Array;

  /**
   * @param wgsl source of the kernel, with its struct `Params` of u32, i32 and f32, and of structs of them
   * @param names of all fields, in order, in camel case; of a field of a field, both names
   * @throws Error when the struct has other fields: the two sides would not understand each other
   */
  constructor(wgsl: string, names: readonly Name[]) {
    const fields = structFields(wgsl, "Params");
    const [expected, found] = [fields.map(({ name }) => name).join(", "), names.join(", ")];
    if (expected !== found) throw new Error(`expected the parameters ${expected} of the WGSL, but there are ${found}`);
    this.#names = names;
    this.#isFloat = fields.map(({ type }) => type === "f32");
    this.#words = new Uint32Array(names.length);
    this.#floats = new Float32Array(this.#words.buffer);
    FIELDS.set(this.#words, fields);
  }

  /** The words of these values, until the next call. */
  pack(values: Readonly<Record<Name, number>>): Uint32Array {
    const names = this.#names;
    for (let at = 0; at < names.length; at++) {
      const name = names[at];
      if (name === undefined) continue;
      if (this.#isFloat[at] === true) this.#floats[at] = values[name];
      else this.#words[at] = values[name];
    }
    return this.#words;
  }
}
