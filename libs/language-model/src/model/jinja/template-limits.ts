// What rendering may take. Templates come with models, from anywhere: one that never ends must not hold up a server.

/** Most steps: a node that is evaluated is one, an item that is gone through takes the time of several. */
const MOST_STEPS = 2 ** 20;
const STEPS_OF_ITEM = 8;
/** Most UTF-16 units of one text or list, nested ones included, and of the whole result. */
const MOST_CHARACTERS = 2 ** 21;
/** Most UTF-16 units of all texts that are made on the way. */
const MOST_MADE = 2 ** 26;
/** Most spaces for each level of an indent. */
const WIDEST_INDENT = 64;

/** Most nodes within one another, as they stand and as they are evaluated: far from what the stack holds. */
export const MOST_DEPTH = 512;

/** A value of @huggingface/jinja, as far as its size goes. */
export interface TemplateValue {
  readonly type: string;
  readonly value: unknown;
}

/** Counts what one rendering takes. */
export class TemplateLimits {
  #steps = 0;
  #made = 0;
  #depth = 0;
  /** Sizes of lists and objects that cannot change. */
  readonly #sizes = new WeakMap<TemplateValue, number>();

  /** Takes `count` steps. @throws Error beyond the most that may be */
  step(count = 1): void {
    this.#steps += count;
    if (this.#steps > MOST_STEPS) throw new Error(`it takes more than ${MOST_STEPS} steps`);
  }

  /** Goes into a node, of which {@link leave} is to come. @throws Error when they are nested too deeply, or too many */
  enter(): void {
    this.step();
    if (++this.#depth > MOST_DEPTH) throw new Error("it is nested too deeply, or calls itself without end");
  }

  /** Comes out of a node. */
  leave(): void {
    this.#depth--;
  }

  /** Takes the steps of going through a value, item by item, if it is a list or an object. @throws Error as `step` */
  walk({ value }: TemplateValue): void {
    const items = Array.isArray(value) ? value.length : value instanceof Map ? value.size : 0;
    this.step(STEPS_OF_ITEM * items);
  }

  /** Counts a value that was found. @throws Error when it is too large, or too much was made in all */
  made(value: TemplateValue): void {
    if (typeof value.value === "string") this.#made += value.value.length;
    if (this.#made > MOST_MADE) throw new Error(`it makes texts of more than ${MOST_MADE} characters in all`);
    this.size(value);
  }

  /**
   * Refuses an argument with which a filter or method would make a text of far more than {@link MOST_CHARACTERS} at
   * once, as `replace` and `join` may, or lines indented without measure.
   */
  argument(operand: TemplateValue, name: string, { value }: TemplateValue): void {
    if (typeof value === "number" && (name === "indent" || name === "tojson") && value > WIDEST_INDENT) {
      throw new Error(`${name} with more than ${WIDEST_INDENT} spaces`);
    }
    const length = typeof value === "string" ? value.length : 1;
    if (length * (this.size(operand) + 1) > MOST_MADE) throw new Error(`${name} makes a text that is too long`);
  }

  /** UTF-16 units of a text, or of all that is in a list or an object. @throws Error when there are too many */
  size(value: TemplateValue): number {
    const size = this.#measure(value, MOST_CHARACTERS).size;
    if (size > MOST_CHARACTERS) throw new Error(`it makes a text or list of more than ${MOST_CHARACTERS} characters`);
    return size;
  }

  /** The size, or some number above `most`; fixed unless there are namespaces in it, which may change. */
  #measure(value: TemplateValue, most: number): { readonly size: number; readonly isFixed: boolean } {
    const content = value.value;
    if (typeof content === "string") return { size: content.length, isFixed: true };
    const isMap = content instanceof Map;
    if (!Array.isArray(content) && !isMap) return { size: 1, isFixed: true };
    const known = this.#sizes.get(value);
    if (known !== undefined) return { size: known, isFixed: true };
    let size = 1;
    let isFixed = value.type !== "NamespaceValue";
    const add = (item: unknown): void => {
      const inner = isValue(item) ? this.#measure(item, most - size) : { size: 1, isFixed: true };
      size += inner.size + 1;
      isFixed &&= inner.isFixed;
    };
    for (const item of isMap ? content.keys() : content) {
      if (typeof item === "string") size += item.length;
      add(isMap ? content.get(item) : item);
      if (size > most) break;
    }
    if (isFixed) this.#sizes.set(value, size);
    return { size, isFixed };
  }
}

function isValue(value: unknown): value is TemplateValue {
  return typeof value === "object" && value !== null && "type" in value && "value" in value;
}
