import { Environment, Interpreter } from "@huggingface/jinja";
import type { TemplateLimits, TemplateValue } from "./template-limits.ts";
import type { TemplateProgram } from "./template-program.ts";

type Statement = Parameters<Interpreter["evaluate"]>[0];
type Value = ReturnType<Interpreter["evaluate"]>;

/**
 * The interpreter of @huggingface/jinja, which counts what it does and knows on which line it fails. Texts' methods
 * `strip`, `lstrip` and `rstrip` take the characters to strip, as Python's do.
 */
export class BoundedInterpreter extends Interpreter {
  readonly #program: TemplateProgram;
  readonly #limits: TemplateLimits;
  /** What operands of guarded filters, and objects of members, were when they were last found. */
  readonly #operands = new Map<unknown, Value>();
  readonly #guarded = new WeakSet<Value>();
  #failure: unknown;
  #line: number | undefined;

  constructor(program: TemplateProgram, limits: TemplateLimits, variables: Readonly<Record<string, unknown>>) {
    const environment = new Environment();
    for (const [name, value] of Object.entries(variables)) environment.set(name, value);
    super(environment);
    this.#program = program;
    this.#limits = limits;
  }

  /** The line on which `error` was thrown, of those that {@link evaluate} threw; undefined when that is not known. */
  lineOf(error: unknown): number | undefined {
    return error === this.#failure ? this.#line : undefined;
  }

  override evaluate(node: Statement, environment: Environment): Value {
    if (node === undefined) return super.evaluate(node, environment);
    try {
      this.#limits.enter();
      const value = super.evaluate(node, environment);
      // The filters `first` and `last` of an empty list find nothing at all.
      if (value === undefined) return super.evaluate(undefined, environment);
      this.#look(node, value);
      return value;
    } catch (error) {
      if (error !== this.#failure) {
        this.#failure = error;
        this.#line = this.#program.lines.get(node);
      }
      throw error;
    } finally {
      this.#limits.leave();
    }
  }

  #look(node: NonNullable<Statement>, value: Value): void {
    this.#limits.made(value);
    const { operands, walked, filterArguments, members } = this.#program;
    if (operands.has(node)) this.#operands.set(node, value);
    if (walked.has(node)) this.#limits.walk(value);
    const filter = filterArguments.get(node);
    const operand = filter === undefined ? undefined : this.#operands.get(filter.operand);
    if (filter !== undefined && operand !== undefined) this.#limits.argument(operand, filter.name, value);
    const object = members.get(node);
    if (object !== undefined && typeof value.value === "function") this.#guard(this.#operands.get(object), value);
  }

  /** Has a method of a text, the function `method`, look at its arguments first. */
  #guard(text: Value | undefined, method: Value): void {
    if (text === undefined || typeof text.value !== "string" || this.#guarded.has(method)) return;
    const name = [...text.builtins].find(([, builtin]) => builtin === method)?.[0];
    const call = method.value;
    if (name === undefined || typeof call !== "function") return;
    this.#guarded.add(method);
    const content = text.value;
    method.value = (args: Value[], scope: Environment): Value => {
      for (const argument of args) this.#limits.argument(text, name, argument);
      const characters: TemplateValue | undefined = args[0];
      const isStrip = name === "strip" || name === "lstrip" || name === "rstrip";
      if (!isStrip || typeof characters?.value !== "string") return call(args, scope);
      return this.#text(stripped(content, characters.value, name), scope);
    };
  }

  /** A value that is a text: only nodes make values. */
  #text(value: string, scope: Environment): Value {
    const literal = { type: "StringLiteral", value };
    return super.evaluate(literal, scope);
  }
}

/** Python's `strip`, `lstrip` or `rstrip` of a text: without any of `characters` at both ends, the start, the end. */
function stripped(text: string, characters: string, method: "strip" | "lstrip" | "rstrip"): string {
  const units = [...text];
  const taken = new Set(characters);
  let start = 0;
  let end = units.length;
  if (method !== "rstrip") while (start < end && taken.has(units[start] ?? "")) start++;
  if (method !== "lstrip") while (end > start && taken.has(units[end - 1] ?? "")) end--;
  return units.slice(start, end).join("");
}
