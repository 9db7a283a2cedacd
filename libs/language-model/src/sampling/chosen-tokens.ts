// Tokens that ranks chose go round: each rank brings those of the rows that belong to it, and gets all.
//
// Numbers of a row, in float64: its token; how many likeliest tokens are told, or -1 for no log-probability at all; its
// log-probability; of each of the likeliest tokens the id and the log-probability.
import type { ProcessGroup } from "@lockstep/dist-groups";
import { type SharedHeap, Tensor } from "@lockstep/tensor";
import type { ChosenToken } from "./row-request.ts";
import { MOST_LOGPROBS } from "./sampling-options.ts";

const HEAD_NUMBERS = 3;
const ROW_NUMBERS = HEAD_NUMBERS + 2 * MOST_LOGPROBS;
/** A float64 travels as two words. */
const ROW_WORDS = 2 * ROW_NUMBERS;

/** Elements of what a rank exchanges: its own rows' words, and all ranks'. */
export function chosenTokenElements(world: number, maxRows: number): readonly number[] {
  if (world === 1) return [];
  const own = Math.ceil(maxRows / world) * ROW_WORDS;
  return [own, world * own];
}

/** The tokens of a step's rows. Row j belongs to rank j mod n. */
export class ChosenTokens {
  readonly #world: ProcessGroup;
  readonly #own: Tensor | undefined;
  readonly #all: Tensor | undefined;
  readonly #found: ChosenToken[] = [];

  /** `maxRows` is the most rows of a step. */
  constructor(world: ProcessGroup, heap: SharedHeap, maxRows: number) {
    this.#world = world;
    const [own, all] = chosenTokenElements(world.size, maxRows).map((words) => Tensor.empty(heap, "i32", [words]));
    this.#own = own;
    this.#all = all;
  }

  /** Keeps the token of a row that belongs to this rank. Rows come in order. */
  push(chosen: ChosenToken): void {
    this.#found.push(chosen);
  }

  /** The tokens of all `rows` rows of the step, in order, once every rank has kept its own. One exchange. */
  gather(rows: number): ChosenToken[] {
    const found = this.#found.splice(0);
    if (this.#own === undefined || this.#all === undefined || rows === 0) return found;
    const { size } = this.#world;
    const each = Math.ceil(rows / size);
    const own = this.#own.slice(0, 0, each * ROW_WORDS).reshape([1, each * ROW_WORDS]);
    const all = this.#all.slice(0, 0, size * each * ROW_WORDS).reshape([size, each * ROW_WORDS]);
    const numbers = numbersOf(own);
    for (const [at, chosen] of found.entries()) write(chosen, numbers, at * ROW_NUMBERS);
    this.#world.allGather(own, all, { dim: 0 });
    const gathered = numbersOf(all);
    return Array.from({ length: rows }, (_, row) => {
      return read(gathered, ((row % size) * each + Math.floor(row / size)) * ROW_NUMBERS);
    });
  }
}

function write({ token, logprob, top = [] }: ChosenToken, numbers: Float64Array, at: number): void {
  numbers[at] = token;
  numbers[at + 1] = logprob === undefined ? -1 : top.length;
  numbers[at + 2] = logprob ?? 0;
  for (const [index, likely] of top.entries()) {
    numbers[at + HEAD_NUMBERS + 2 * index] = likely.id;
    numbers[at + HEAD_NUMBERS + 2 * index + 1] = likely.logprob;
  }
}

function read(numbers: Float64Array, at: number): ChosenToken {
  const [token = -1, told = -1, logprob = Number.NaN] = numbers.subarray(at, at + HEAD_NUMBERS);
  if (told < 0) return { token };
  const top = Array.from({ length: told }, (_, index) => {
    const [id = -1, likely = Number.NaN] = numbers.subarray(at + HEAD_NUMBERS + 2 * index);
    return { id, logprob: likely };
  });
  return { token, logprob, top };
}

/** The words of an i32 tensor as float64. */
function numbersOf(tensor: Tensor): Float64Array {
  const { buffer, byteOffset, length } = tensor.i32;
  return new Float64Array(buffer, byteOffset, length / 2);
}
