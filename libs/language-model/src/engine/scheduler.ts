// Which requests a step computes, and which tokens of each. Every rank runs its own, and all decide alike.
import type { Sampling } from "../sampling/sampling-options.ts";
import type { FinishReason } from "./request-options.ts";
import { sharedBeyond } from "./shared-beginning.ts";

/** A request as ranks know it. Plain data. */
export interface ScheduledRequest {
  /** Its number: later requests have higher ones. */
  readonly id: number;
  readonly prompt: readonly number[];
  /** Tokens that ranks before these generated; left out: none. */
  readonly generated?: readonly number[];
  /** Most tokens to generate, those among them. */
  readonly maxTokens: number;
  /** Tokens that end the text. */
  readonly endTokens: readonly number[];
  readonly sampling: Sampling;
}

/** A request that is computed, and how far it is. Plain data. */
export interface RunningText {
  readonly id: number;
  readonly sequence: number;
  /** Tokens whose keys and values are stored. */
  readonly stored: number;
}

/** What a scheduler asks of a paged KV cache: `DcpAttention`, or a model of it. */
export interface KvSpace {
  /** Blocks of this rank: all, and those that nobody holds. */
  readonly blocks: { readonly total: number; readonly free: number; readonly known: number };
  /** A new sequence that begins with what is known of `ids`, all but the last at most. */
  createSequenceFrom(ids: readonly number[]): { readonly sequence: number; readonly cached: number };
  /** How many tokens {@link KvSpace.createSequenceFrom} would find. */
  knownPrefix(ids: readonly number[]): number;
  /** Tells which tokens a sequence stores, for texts that begin alike. */
  keepPrefix(sequence: number, ids: readonly number[]): void;
  freeSequence(sequence: number): void;
}

/** Sizes that a scheduler keeps to. */
export interface SchedulerOptions {
  /** Tokens that a block holds, over all ranks that share the cache. */
  readonly blockTokens: number;
  /** Most tokens of one step. */
  readonly maxStepTokens: number;
  /** Most requests computed at once. */
  readonly maxRunning: number;
  /** Whether texts that begin alike share what was computed. */
  readonly sharesPrefixes: boolean;
}

/** What one request brings to a step. */
export interface ScheduledItem {
  readonly id: number;
  readonly sequence: number;
  readonly ids: readonly number[];
  /** 1 when the token that follows is asked for. */
  readonly logits: 0 | 1;
  /** How that token is chosen, and its number among the generated ones. */
  readonly sampling: Sampling;
  readonly index: number;
}

/** What a step made of one request. */
export interface RequestProgress {
  readonly id: number;
  /** Place of its token among the tokens chosen in the step. */
  readonly chosen: number;
  readonly finish: FinishReason | undefined;
}

interface Live {
  readonly request: ScheduledRequest;
  /** Prompt and generated tokens. */
  readonly ids: number[];
  sequence: number;
  /** Tokens whose keys and values are stored. */
  stored: number;
  /** Full blocks that other texts may share already. */
  kept: number;
  /** While it waits: a prompt under way that will store so many tokens of it. */
  behind: { readonly other: Live; readonly shared: number } | undefined;
}

/**
 * Continuous batching: requests join and leave between steps.
 *
 * - Every text that decodes brings its last token to each step. Prompts fill what is left of the step: at least half of
 *   that goes to the prompt that came first, the rest to the prompts with the fewest tokens left. So a long prompt
 *   holds up neither the decoding of others nor short prompts behind it, and is not held up for good by them.
 * - A request is begun when there are blocks for its prompt and a token, besides what the prompts under way will take.
 *   Requests are begun in the order in which they came. One that begins as a prompt under way does waits for what they
 *   share.
 * - When decoding runs out of blocks, the request that came last gives all of its own up, and is computed again later:
 *   its prompt and the tokens that it has. It goes on as if nothing had happened, as a row's bits depend on its own
 *   tokens alone.
 */
export class Scheduler {
  readonly #space: KvSpace;
  readonly #options: SchedulerOptions;
  /** By id, which is the order in which they came. */
  readonly #running: Live[] = [];
  readonly #waiting: Live[] = [];
  /** Requests begun since they were asked for last, with the tokens of each that were known. */
  #begun: { readonly id: number; readonly cached: number }[] = [];
  /** How often a request gave up its blocks. */
  preemptions = 0;

  constructor(space: KvSpace, options: SchedulerOptions) {
    this.#space = space;
    this.#options = options;
  }

  /** Whether there is nothing to compute. */
  get isIdle(): boolean {
    return this.#running.length === 0 && this.#waiting.length === 0;
  }

  get running(): number {
    return this.#running.length;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** How many tokens of a request there are, prompt included; 0 when it is not computed. */
  lengthOf(id: number): number {
    return this.#running.find(({ request }) => request.id === id)?.ids.length ?? 0;
  }

  /** Adds a request. One that no cache of this size could ever hold is refused before it comes here. */
  submit(request: ScheduledRequest): void {
    const ids = [...request.prompt, ...(request.generated ?? [])];
    this.#waiting.push({ request, ids, sequence: -1, stored: 0, kept: 0, behind: undefined });
  }

  /** Requests that are computed. */
  get texts(): RunningText[] {
    return this.#running.map(({ request: { id }, sequence, stored }) => ({ id, sequence, stored }));
  }

  /** Adds a request that others began: `sequence` holds so many of its tokens, and it goes on after them. */
  resume(request: ScheduledRequest, sequence: number, stored: number): void {
    const ids = [...request.prompt, ...(request.generated ?? [])];
    this.#running.push({ request, ids, sequence, stored, kept: 0, behind: undefined });
    this.#running.sort((a, b) => a.request.id - b.request.id);
  }

  /** Forgets a request and frees its blocks. One that is over already is none any more: nothing happens. */
  cancel(id: number): void {
    const isIt = ({ request }: Live): boolean => request.id === id;
    const waiting = this.#waiting.findIndex(isIt);
    if (waiting >= 0) this.#waiting.splice(waiting, 1);
    const running = this.#running.find(isIt);
    if (running !== undefined) this.#leave(running);
  }

  /** Requests begun since the last time, with how many tokens of each were known. */
  takeBegun(): readonly { readonly id: number; readonly cached: number }[] {
    const begun = this.#begun;
    this.#begun = [];
    return begun;
  }

  /** What the next step computes; empty when there is nothing to. */
  next(): ScheduledItem[] {
    for (;;) {
      const decoding = this.#decoding();
      this.#admit();
      const parts = new Map(decoding.map((live) => [live, 1]));
      this.#addPrompts(parts);
      const last = this.#running.at(-1);
      if (parts.size > 0 || last === undefined) return this.#running.flatMap((live) => itemOf(live, parts.get(live)));
      // Prompts under way hold all blocks, and none can go on.
      this.#preempt(last);
    }
  }

  /**
   * Takes in what a step chose.
   * @param tokens the token that follows each item with `logits`, in their order
   * @returns what became of the requests of these items
   */
  accept(items: readonly ScheduledItem[], tokens: readonly number[]): RequestProgress[] {
    const progress: RequestProgress[] = [];
    for (const { id, ids, logits } of items) {
      const live = this.#running.find(({ request }) => request.id === id);
      if (live === undefined) throw new Error(`request ${id} is not computed`);
      live.stored += ids.length;
      if (logits === 1) {
        const token = tokens[progress.length] ?? -1;
        live.ids.push(token);
        progress.push({ id, chosen: progress.length, finish: finishOf(live, token) });
      }
      this.#keep(live);
    }
    for (const { id, finish } of progress) {
      const live = this.#running.find(({ request }) => request.id === id);
      if (finish !== undefined && live !== undefined) this.#leave(live);
    }
    return progress;
  }

  /** Texts that decode, once there are blocks for the next token of each. */
  #decoding(): Live[] {
    for (;;) {
      const decoding = this.#running.filter((live) => left(live) === 1);
      const needed = decoding.reduce((sum, live) => sum + this.#blocksFor(live), 0);
      const last = this.#running.at(-1);
      if (last === undefined || needed <= this.#space.blocks.free) return decoding;
      this.#preempt(last);
    }
  }

  /** Adds tokens of prompts to a step, as far as there is room and there are blocks. */
  #addPrompts(parts: Map<Live, number>): void {
    const { blockTokens, maxStepTokens } = this.#options;
    const prompts = this.#running.filter((live) => !parts.has(live));
    const [first] = prompts;
    if (first === undefined) return;
    let room = maxStepTokens - parts.size;
    let free = this.#space.blocks.free;
    for (const live of parts.keys()) free -= this.#blocksFor(live);
    const give = (live: Live, most: number): void => {
      const before = parts.get(live) ?? 0;
      const at = live.stored + before;
      const inBlocks = Math.ceil(at / blockTokens) * blockTokens - at + Math.max(0, free) * blockTokens;
      const tokens = Math.min(left(live) - before, most, inBlocks);
      if (tokens <= 0) return;
      free -= Math.ceil((at + tokens) / blockTokens) - Math.ceil(at / blockTokens);
      room -= tokens;
      parts.set(live, before + tokens);
    };
    give(first, Math.ceil(room / 2));
    // Sorting is stable: of prompts as long the one that came first.
    for (const live of [...prompts].sort((a, b) => left(a) - left(b))) give(live, room);
  }

  /** Begins requests that wait, as far as there are blocks. */
  #admit(): void {
    for (let at = 0; this.#running.length < this.#options.maxRunning; ) {
      const live = this.#waiting[at];
      if (live === undefined) return;
      if (this.#isBeingComputed(live)) {
        at++;
        continue;
      }
      if (!this.#begin(live)) return;
      this.#waiting.splice(at, 1);
    }
  }

  /** Whether a prompt under way will soon make more of a text known than is. */
  #isBeingComputed(live: Live): boolean {
    const { blockTokens, sharesPrefixes } = this.#options;
    if (!sharesPrefixes) return false;
    const { ids, behind } = live;
    // Found out before: many that wait for one prompt are not compared with it in every step.
    if (behind !== undefined && behind.other.sequence >= 0 && behind.other.stored < behind.shared) return true;
    live.behind = undefined;
    const mostShared = Math.floor((ids.length - 1) / blockTokens) * blockTokens;
    let known = 0;
    for (const other of this.#running) {
      if (left(other) <= 1) continue;
      const shared = Math.min(mostShared, sharedBeyond(known, ids, other.ids, blockTokens));
      if (shared > 0 && known === 0) {
        known = this.#space.knownPrefix(ids);
        if (known >= mostShared) return false;
      }
      if (shared <= known) continue;
      live.behind = { other, shared };
      return true;
    }
    return false;
  }

  /** Begins a request if there are blocks for it, what prompts under way will take, and one more for each text. */
  #begin(live: Live): boolean {
    const promised = this.#running.reduce((sum, other) => sum + this.#blocksFor(other) + 1, 0);
    // What is known takes no block where somebody holds it: how many are left is seen once the text has it.
    const { sequence, cached } = this.#space.createSequenceFrom(live.ids);
    live.sequence = sequence;
    live.stored = cached;
    live.kept = Math.floor(cached / this.#options.blockTokens);
    if (this.#running.length > 0 && this.#blocksFor(live) + 1 + promised > this.#space.blocks.free) {
      this.#release(live);
      return false;
    }
    this.#running.push(live);
    this.#running.sort((a, b) => a.request.id - b.request.id);
    this.#begun.push({ id: live.request.id, cached });
    return true;
  }

  /** Blocks that a request still takes for the tokens that it has. */
  #blocksFor({ ids, stored }: Live): number {
    const { blockTokens } = this.#options;
    return Math.ceil(ids.length / blockTokens) - Math.ceil(stored / blockTokens);
  }

  /** Frees the blocks of a request, which waits again, before all that came later. */
  #preempt(live: Live): void {
    this.#leave(live);
    this.preemptions++;
    const later = this.#waiting.findIndex(({ request }) => request.id > live.request.id);
    this.#waiting.splice(later < 0 ? this.#waiting.length : later, 0, live);
  }

  #leave(live: Live): void {
    this.#running.splice(this.#running.indexOf(live), 1);
    this.#release(live);
  }

  #release(live: Live): void {
    this.#space.freeSequence(live.sequence);
    live.sequence = -1;
    live.stored = 0;
    live.kept = 0;
  }

  /** Makes the full blocks of a text known that have become so. */
  #keep(live: Live): void {
    const full = Math.floor(live.stored / this.#options.blockTokens);
    if (full === live.kept || !this.#options.sharesPrefixes) return;
    live.kept = full;
    this.#space.keepPrefix(live.sequence, live.ids.slice(0, full * this.#options.blockTokens));
  }
}

/** Tokens of a request that are not stored yet: 1 for a text that decodes. */
function left({ ids, stored }: Live): number {
  return ids.length - stored;
}

/** What a request brings to a step: so many of its tokens, or nothing. */
function itemOf({ request, ids, sequence, stored }: Live, tokens: number | undefined): ScheduledItem[] {
  if (tokens === undefined) return [];
  const end = stored + tokens;
  const index = ids.length - request.prompt.length;
  const { id, sampling } = request;
  return [{ id, sequence, ids: ids.slice(stored, end), logits: end === ids.length ? 1 : 0, sampling, index }];
}

function finishOf({ request, ids }: Live, token: number): FinishReason | undefined {
  if (request.endTokens.includes(token)) return "stop";
  return ids.length - request.prompt.length >= request.maxTokens ? "length" : undefined;
}
