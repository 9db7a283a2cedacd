import { AttentionPlan, GpuTensor } from "@lockstep/kernels";
import { type DType, type SharedHeap, Tensor, type TensorDescriptor } from "@lockstep/tensor";
import { textOf as textOfMessage } from "./meeting.ts";
import { NumberedMemory } from "./numbered-memory.ts";
import { type Call, type Called, FENCE, isAboutMemory } from "./op-call.ts";

/** A view of memory on the GPU, by the rank that asked for the memory and the number that it gave it. */
export interface GpuView {
  readonly rank: number;
  readonly id: number;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  readonly elementOffset: number;
}

/** What a rank has to be run, and which of its calls asks for that now. */
export interface EncodedCalls {
  readonly called: Called;
  readonly calls: readonly EncodedCall[];
}

/** A call to be put together when its turn comes, so that it can be about memory that one before allocated. */
export interface EncodedCall {
  readonly isFence: boolean;
  take(): Call;
}

/** What the owner of a device knows of the memory of all ranks, and of the plans of one. */
export interface RemembersMemory {
  view(view: GpuView): GpuTensor;
  planOf(id: number): AttentionPlan;
}

/** Numbers by which ranks and the owner of the device know plans. */
const PLAN_IDS = new WeakMap<AttentionPlan, number>();

/** Notes the number of a plan. */
export function notePlan(plan: AttentionPlan, id: number): void {
  PLAN_IDS.set(plan, id);
}

/** What JSON has no form for, marked by its first field. */
type Marked =
  | { readonly $: "tensor"; readonly descriptor: TensorDescriptor }
  | { readonly $: "gpu"; readonly view: GpuView }
  | { readonly $: "plan"; readonly id: number }
  | { readonly $: "number"; readonly text: string };

/** How a plan's text begins. */
const PLAN_TEXT = '{"$":"plan"';
/** Texts that are remembered; a step of a model repeats a few for each layer. */
const MOST_REMEMBERED = 4096;

/**
 * Calls as bytes: a line of what asks for them to be run, and one for each. The line of a call has its name, and its
 * arguments' names and values in turn, between tabs, which JSON does not contain. Tensors are descriptors of where they
 * lie, so that no data moves. Values that come again, as most do in the steps of a model, are neither put into words nor
 * understood twice.
 */
export class CallEncoder {
  readonly #texts = new WeakMap<object, string>();
  /** Of calls, which do not change. */
  readonly #lines = new WeakMap<Call, string>();

  encode(called: Called, calls: readonly Call[]): Uint8Array {
    return new TextEncoder().encode([called, ...calls.map((call) => this.#line(call))].join("\n"));
  }

  #line(call: Call): string {
    const known = this.#lines.get(call);
    if (known !== undefined) return known;
    const line = this.#newLine(call);
    this.#lines.set(call, line);
    return line;
  }

  #newLine([name, args]: Call): string {
    let line: string = name;
    for (const [key, value] of Object.entries(args as object)) {
      if (value !== undefined) line += `\t${key}\t${this.#text(value)}`;
    }
    return line;
  }

  #text(value: unknown): string {
    // Tensors do not change; arrays and objects may.
    if (Array.isArray(value) && value[0] instanceof GpuTensor)
      return `[${value.map((part) => this.#text(part)).join()}]`;
    if (!(value instanceof Tensor || value instanceof GpuTensor)) return textOf(value);
    const known = this.#texts.get(value);
    if (known !== undefined) return known;
    const text = textOf(value);
    this.#texts.set(value, text);
    return text;
  }
}

/** Puts the calls together again, on another thread. */
export class CallDecoder {
  readonly #heap: SharedHeap;
  readonly #memory: RemembersMemory;
  readonly #values = new Map<string, unknown>();
  /** Calls whose arguments are all remembered values. */
  readonly #calls = new Map<string, Call>();

  /**
   * @param heap any range of the memory that the tensors lie in
   * @param memory finds what the rank that made the calls knows by a number
   */
  constructor(heap: SharedHeap, memory: RemembersMemory) {
    this.#heap = heap;
    this.#memory = memory;
  }

  decode(bytes: Uint8Array): EncodedCalls {
    const [called, ...lines] = textOfMessage(bytes).split("\n");
    const calls = lines.map((line) => ({ isFence: line === FENCE[0], take: () => this.#call(line) }));
    return { called: called as Called, calls };
  }

  /** To be called when memory is freed, which remembered views are of. */
  forget(): void {
    this.#values.clear();
    this.#calls.clear();
  }

  #call(line: string): Call {
    const known = this.#calls.get(line);
    if (known !== undefined) return known;
    const [name, ...parts] = line.split("\t");
    const args: Record<string, unknown> = {};
    // What is about memory comes once, and plans live for a step.
    const isOfOnce = isAboutMemory([name, args] as unknown as Call);
    let isLasting = !isOfOnce;
    for (let at = 0; at + 1 < parts.length; at += 2) {
      const text = parts[at + 1] ?? "";
      const isPlan = text.startsWith(PLAN_TEXT);
      args[parts[at] ?? ""] = isOfOnce || isPlan ? this.#parsed(text) : this.#value(text);
      if (isPlan) isLasting = false;
    }
    const call = [name, args] as unknown as Call;
    if (isLasting) {
      if (this.#calls.size >= MOST_REMEMBERED) this.#calls.clear();
      this.#calls.set(line, call);
    }
    return call;
  }

  #value(text: string): unknown {
    if (!text.startsWith("{") && !text.startsWith("[{")) return this.#parsed(text);
    const known = this.#values.get(text);
    if (known !== undefined) return known;
    const value = this.#parsed(text);
    if (this.#values.size >= MOST_REMEMBERED) this.#values.clear();
    this.#values.set(text, value);
    return value;
  }

  #parsed(text: string): unknown {
    const value: unknown = JSON.parse(text);
    return text.includes('"$"') ? this.#revived(value) : value;
  }

  #revived(value: unknown): unknown {
    if (Array.isArray(value)) return value.map((part) => this.#revived(part));
    if (typeof value !== "object" || value === null) return value;
    if (!isMarked(value)) {
      return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, this.#revived(part)]));
    }
    if (value.$ === "tensor") return Tensor.fromDescriptor(value.descriptor, this.#heap);
    if (value.$ === "plan") return this.#memory.planOf(value.id);
    return value.$ === "gpu" ? this.#memory.view(value.view) : Number(value.text);
  }
}

function textOf(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) => mark(part));
}

function mark(value: unknown): unknown {
  if (value instanceof Tensor) return { $: "tensor", descriptor: value.descriptor } satisfies Marked;
  if (value instanceof GpuTensor) return { $: "gpu", view: viewOf(value) } satisfies Marked;
  // A plan of another backend has no number: the owner knows none of -1.
  if (value instanceof AttentionPlan) return { $: "plan", id: PLAN_IDS.get(value) ?? -1 } satisfies Marked;
  if (ArrayBuffer.isView(value) && "length" in value) return Array.from(value as unknown as ArrayLike<number>);
  const isPlain = typeof value !== "number" || (Number.isFinite(value) && !Object.is(value, -0));
  return isPlain ? value : ({ $: "number", text: Object.is(value, -0) ? "-0" : String(value) } satisfies Marked);
}

function viewOf({ memory, dtype, shape, strides, elementOffset }: GpuTensor): GpuView {
  // A buffer of a device of this thread means nothing to the other: no memory has the number -1.
  const { rank, id } = memory instanceof NumberedMemory ? memory : { rank: -1, id: -1 };
  return { rank, id, dtype, shape, strides, elementOffset };
}

function isMarked(value: object): value is Marked {
  return "$" in value;
}
