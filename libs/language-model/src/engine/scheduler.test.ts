// The scheduler over a model of a paged cache: texts are a function of their tokens, so that any loss shows.
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { resolveSampling } from "../sampling/sampling-options.ts";
import { type KvSpace, type ScheduledItem, type ScheduledRequest, Scheduler } from "./scheduler.ts";

const sampling = resolveSampling("test", { seed: 1 });
const END = 0;
const BLOCK = 4;

/** The token that follows these: any of a few, so that texts begin alike and end. */
function nextToken(ids: readonly number[]): number {
  let hash = 7;
  for (const id of ids) hash = (hash * 31 + id) % 1009;
  return hash % 11;
}

/** A cache that knows the tokens of each block, and refuses what does not fit. */
class ModelSpace implements KvSpace {
  readonly #total: number;
  /** Contents of full blocks that are known, by all tokens up to their end, with how many hold each. */
  readonly #known = new Map<string, number>();
  readonly #sequences = new Map<number, { ids: number[]; shared: string[]; own: number }>();
  #next = 0;
  /** Tokens computed. */
  computed = 0;

  constructor(total: number) {
    this.#total = total;
  }

  get #held(): number {
    let held = 0;
    for (const { own } of this.#sequences.values()) held += own;
    for (const holders of this.#known.values()) if (holders > 0) held++;
    return held;
  }

  get blocks(): { total: number; free: number; known: number } {
    const known = [...this.#known.values()].filter((holders) => holders === 0).length;
    return { total: this.#total, free: this.#total - this.#held, known };
  }

  knownPrefix(ids: readonly number[]): number {
    let length = 0;
    while (length + BLOCK < ids.length && this.#known.has(ids.slice(0, length + BLOCK).join())) length += BLOCK;
    return length;
  }

  createSequenceFrom(ids: readonly number[]): { sequence: number; cached: number } {
    const cached = this.knownPrefix(ids);
    const shared: string[] = [];
    for (let end = BLOCK; end <= cached; end += BLOCK) shared.push(ids.slice(0, end).join());
    for (const key of shared) this.#known.set(key, (this.#known.get(key) ?? 0) + 1);
    this.#sequences.set(this.#next, { ids: ids.slice(0, cached), shared, own: 0 });
    return { sequence: this.#next++, cached };
  }

  keepPrefix(sequence: number, ids: readonly number[]): void {
    const found = this.#get(sequence);
    expect(found.ids.slice(0, ids.length)).toEqual([...ids]);
    for (let end = BLOCK * (found.shared.length + 1); end <= ids.length; end += BLOCK) {
      const key = ids.slice(0, end).join();
      this.#known.set(key, (this.#known.get(key) ?? 0) + 1);
      found.shared.push(key);
      found.own--;
    }
  }

  freeSequence(sequence: number): void {
    for (const key of this.#get(sequence).shared) this.#known.set(key, (this.#known.get(key) ?? 0) - 1);
    this.#sequences.delete(sequence);
  }

  /** Computes a step: the tokens that follow. */
  forward(items: readonly ScheduledItem[]): number[] {
    for (const { sequence, ids } of items) {
      const found = this.#get(sequence);
      found.ids.push(...ids);
      found.own = Math.ceil(found.ids.length / BLOCK) - found.shared.length;
      this.computed += ids.length;
    }
    while (this.#held + this.#idle > this.#total && this.#idle > 0) this.#evict();
    expect(this.#held).toBeLessThanOrEqual(this.#total);
    return items.filter(({ logits }) => logits === 1).map(({ sequence }) => nextToken(this.#get(sequence).ids));
  }

  get live(): number {
    return this.#sequences.size;
  }

  get #idle(): number {
    return this.blocks.known;
  }

  /** Forgets a block that nobody holds: the longest, whose text no other continues. */
  #evict(): void {
    const idle = [...this.#known].filter(([, holders]) => holders === 0).map(([key]) => key);
    const [longest] = idle.sort((a, b) => b.length - a.length);
    if (longest !== undefined) this.#known.delete(longest);
  }

  #get(sequence: number): { ids: number[]; shared: string[]; own: number } {
    return this.#sequences.get(sequence) ?? expect.unreachable();
  }
}

function request(id: number, prompt: readonly number[], maxTokens: number): ScheduledRequest {
  return { id, prompt, maxTokens, endTokens: [END], sampling };
}

/** The text of a request that is alone. */
function alone({ prompt, maxTokens, endTokens }: ScheduledRequest): number[] {
  const ids = [...prompt];
  while (ids.length < prompt.length + maxTokens) {
    ids.push(nextToken(ids));
    if (endTokens.includes(ids.at(-1) ?? -1)) break;
  }
  return ids.slice(prompt.length);
}

const options = { blockTokens: BLOCK, maxStepTokens: 16, maxRunning: 5, sharesPrefixes: true };

/** One step; returns what came of it. */
function step(
  scheduler: Scheduler,
  space: ModelSpace,
): { items: ScheduledItem[]; tokens: Map<number, number>; done: number[] } {
  const items = scheduler.next();
  const chosen = space.forward(items);
  const progress = scheduler.accept(items, chosen);
  const tokens = new Map(progress.map(({ id, chosen: at }) => [id, chosen[at] ?? -1]));
  return { items, tokens, done: progress.filter(({ finish }) => finish !== undefined).map(({ id }) => id) };
}

describe("continuous batching", () => {
  test("whatever comes, goes and is given up: every text is what it is alone, and all blocks come back", () => {
    const arrival = fc.record({
      after: fc.nat(6),
      prompt: fc.array(fc.nat(2), { minLength: 1, maxLength: 25 }),
      maxTokens: fc.integer({ min: 1, max: 12 }),
      cancelAfter: fc.option(fc.nat(12), { freq: 4 }),
    });
    const law = fc.property(
      fc.array(arrival, { minLength: 1, maxLength: 24 }),
      fc.integer({ min: 10, max: 30 }),
      fc.boolean(),
      (arrivals, total, sharesPrefixes) => {
        const space = new ModelSpace(total);
        const scheduler = new Scheduler(space, { ...options, sharesPrefixes });
        const texts = new Map<number, number[]>();
        const over = new Set<number>();
        const at = new Map<number, number>();
        let time = 0;
        for (const { after } of arrivals) {
          time += after;
          at.set(at.size, time);
        }
        for (let now = 0, idle = 0; idle < 3; now++) {
          for (const [id, { prompt, maxTokens, cancelAfter }] of arrivals.entries()) {
            const start = at.get(id) ?? 0;
            if (start === now) scheduler.submit(request(id, prompt, maxTokens));
            if (cancelAfter !== null && start + cancelAfter === now && !over.has(id)) {
              scheduler.cancel(id);
              over.add(id);
            }
          }
          const { items, tokens, done } = step(scheduler, space);
          expect(scheduler.running).toBeLessThanOrEqual(options.maxRunning);
          expect(items.reduce((sum, { ids }) => sum + ids.length, 0)).toBeLessThanOrEqual(options.maxStepTokens);
          for (const [id, token] of tokens) texts.set(id, [...(texts.get(id) ?? []), token]);
          for (const id of done) over.add(id);
          // Whatever is there goes on.
          expect(scheduler.isIdle || items.length > 0 || done.length > 0).toBe(true);
          idle = scheduler.isIdle && now > time + 12 ? idle + 1 : 0;
          expect(now).toBeLessThan(2000);
        }
        for (const [id, { prompt, maxTokens, cancelAfter }] of arrivals.entries()) {
          const wanted = alone(request(id, prompt, maxTokens));
          const text = texts.get(id) ?? [];
          expect(text).toEqual(cancelAfter === null ? wanted : wanted.slice(0, text.length));
          expect(over.has(id)).toBe(true);
        }
        expect(space.live).toBe(0);
        expect(space.blocks.free).toBe(total);
      },
    );
    fc.assert(law, { numRuns: 300 });
  });

  test("a long prompt holds up neither what decodes nor a short prompt behind it", () => {
    const space = new ModelSpace(200);
    const scheduler = new Scheduler(space, options);
    scheduler.submit(request(0, [1, 2], 40));
    step(scheduler, space);
    scheduler.submit(request(1, Array(200).fill(3), 2));
    scheduler.submit(request(2, [4, 5, 6], 2));
    const { items } = step(scheduler, space);
    expect(items.map(({ id, ids }) => [id, ids.length])).toEqual([
      [0, 1],
      [1, 12],
      [2, 3],
    ]);
  });

  test("of prompts under way the first gets half of the room at least, and the shortest the rest", () => {
    const space = new ModelSpace(200);
    const scheduler = new Scheduler(space, options);
    scheduler.submit(request(0, Array(100).fill(3), 1));
    scheduler.submit(request(1, Array(90).fill(4), 1));
    scheduler.submit(request(2, Array(5).fill(5), 1));
    const { items } = step(scheduler, space);
    expect(items.map(({ id, ids }) => [id, ids.length])).toEqual([
      [0, 8],
      [1, 3],
      [2, 5],
    ]);
  });

  test("a prompt that many share is computed once, also when all come together", () => {
    const space = new ModelSpace(200);
    const scheduler = new Scheduler(space, { ...options, maxRunning: 50 });
    const system = Array.from({ length: 40 }, (_, index) => 1 + (index % 9));
    for (let id = 0; id < 50; id++) scheduler.submit(request(id, [...system, 1 + (id % 8), 2], 1));
    const cached: number[] = [];
    while (!scheduler.isIdle) {
      step(scheduler, space);
      for (const begun of scheduler.takeBegun()) cached.push(begun.cached);
    }
    expect(cached.slice(0, 1)).toEqual([0]);
    expect(cached.slice(1)).toEqual(Array(49).fill(40));
    expect(space.computed).toBe(42 + 49 * 2);
  });

  test("texts that wait for a prompt under way are looked at when it has come so far, not in every step", () => {
    const space = new ModelSpace(400);
    const scheduler = new Scheduler(space, { ...options, maxRunning: 50 });
    const system = Array.from({ length: 400 }, (_, index) => 1 + (index % 9));
    const waiting = 40;
    for (let id = 0; id <= waiting; id++) scheduler.submit(request(id, [...system, 1 + (id % 8), 2], 1));
    let looks = 0;
    const look = space.knownPrefix.bind(space);
    space.knownPrefix = (ids) => {
      looks++;
      return look(ids);
    };
    // 16 tokens each.
    for (let steps = 0; steps < 20; steps++) step(scheduler, space);
    expect(scheduler.waiting).toBe(waiting);
    expect(looks).toBeLessThan(3 * waiting);
    // One that it waits for is gone: the next takes its place, and the others wait for that one.
    scheduler.cancel(0);
    step(scheduler, space);
    expect([scheduler.running, scheduler.waiting]).toEqual([1, waiting - 1]);
    while (!scheduler.isIdle) step(scheduler, space);
    expect(space.blocks.free).toBe(400);
  });

  test("a request waits for blocks of its own, besides those that the prompts under way will take", () => {
    const scheduler = new Scheduler(new ModelSpace(9), options);
    scheduler.submit(request(0, Array(20).fill(3), 1));
    scheduler.submit(request(1, Array(12).fill(4), 1));
    // Five blocks and three, and one more for each, are ten.
    scheduler.next();
    expect([scheduler.running, scheduler.waiting]).toEqual([1, 1]);
    const roomy = new Scheduler(new ModelSpace(10), options);
    roomy.submit(request(0, Array(20).fill(3), 1));
    roomy.submit(request(1, Array(12).fill(4), 1));
    roomy.next();
    expect([roomy.running, roomy.waiting]).toEqual([2, 0]);
  });

  test("when blocks run out the request that came last gives way, and goes on later with the same text", () => {
    const space = new ModelSpace(8);
    const scheduler = new Scheduler(space, { ...options, sharesPrefixes: false });
    const requests = [request(0, [3, 3, 3], 20), request(1, [3, 3, 4], 20)].map((each) => ({ ...each, endTokens: [] }));
    const wanted = requests.map(alone);
    for (const each of requests) scheduler.submit(each);
    const texts: number[][] = [[], []];
    const order: number[] = [];
    while (!scheduler.isIdle) {
      const { tokens, done } = step(scheduler, space);
      for (const [id, token] of tokens) texts[id]?.push(token);
      order.push(...done);
    }
    expect(texts).toEqual(wanted);
    // Both need 6 blocks in the end, and there are 8.
    expect(scheduler.preemptions).toBeGreaterThan(0);
    expect(order).toEqual([0, 1]);
  });

  test("forgetting what is over, or was never there, changes nothing", () => {
    const space = new ModelSpace(10);
    const scheduler = new Scheduler(space, options);
    scheduler.cancel(5);
    scheduler.submit(request(0, [1], 1));
    step(scheduler, space);
    scheduler.cancel(0);
    expect(scheduler.isIdle).toBe(true);
    expect(scheduler.next()).toEqual([]);
  });
});
