// Random arguments, most of them wrong, of every op of every backend, and of the attention's public functions on a
// rank: each call succeeds, or throws a typed error before anything is written.
import { type MethodsOf, openWorld, type World } from "@lockstep/dist-groups";
import { type KernelBackend, openBackend } from "@lockstep/kernels";
import { Arena, LockstepError, SharedHeap, Tensor } from "@lockstep/tensor";
import { validArguments } from "../../libs/kernels/src/testing/valid-arguments.ts";
import { RandomStream } from "../random.ts";
import type * as program from "./arguments-program.ts";
import { wildValue } from "./wild-values.ts";

/** Backends and a world that are opened once. */
export class ArgumentsFuzz {
  readonly #heap = SharedHeap.create(16 << 20);
  readonly #arena = new Arena(this.#heap, 1 << 20);
  #backends: KernelBackend[] | undefined;
  #world: World<MethodsOf<typeof program>> | undefined;

  /** Runs one case. @throws Error that names the call and what was wrong about its answer */
  async run(seed: number): Promise<void> {
    const random = new RandomStream(seed);
    if (random.next() < 0.5) await this.#runOp(random);
    else {
      this.#world ??= await openWorld<typeof program>({
        size: 1,
        program: new URL("./arguments-program.ts", import.meta.url),
        deadlineMs: 300_000,
      });
      const [wrong] = await this.#world.call("run", [seed]);
      if (wrong !== undefined) throw new Error(wrong);
    }
  }

  async close(): Promise<void> {
    for (const backend of this.#backends ?? []) await backend.close();
    await this.#world?.close();
  }

  async #runOp(random: RandomStream): Promise<void> {
    this.#backends ??= [
      await openBackend("wasm", { heap: this.#heap }),
      await openBackend("reference", { heap: this.#heap }),
      await openBackend("webgpu", { heap: this.#heap, adapter: "software" }),
    ];
    this.#arena.reset();
    const ops = validArguments(this.#arena);
    const valid = ops[random.below(ops.length)];
    const backend = this.#backends[random.below(this.#backends.length)];
    if (valid === undefined || backend === undefined) return;
    const names = Object.keys(valid.args);
    const args: Record<string, unknown> = { ...valid.args };
    const changed: string[] = [];
    for (let count = 1 + random.below(2); count > 0; count--) {
      const name = names[random.below(names.length)] ?? "";
      changed.push(name);
      args[name] = this.#changed(args[name], random);
    }
    const outputs = valid.outputs.map((name) => valid.args[name]).filter((value) => value instanceof Tensor);
    const before = outputs.map((tensor) => Buffer.from(tensor.bytes));
    const what = `${backend.name} ${valid.op} with another ${changed}`;
    try {
      await (backend[valid.op] as (args: unknown) => unknown).call(backend, args);
    } catch (error) {
      if (!(error instanceof LockstepError)) throw new Error(`${what}: no typed error`, { cause: error });
      for (const [index, tensor] of outputs.entries()) {
        if (Buffer.compare(Buffer.from(tensor.bytes), before[index] ?? Buffer.alloc(0)) === 0) continue;
        throw new Error(`${what}: refused after something was written`, { cause: error });
      }
    }
  }

  /** A wild value, or a tensor that differs a little from the one that was right. */
  #changed(value: unknown, random: RandomStream): unknown {
    if (!(value instanceof Tensor) || random.next() < 0.3) return wildValue(random);
    const shape = value.shape.map((size) => Math.max(0, size + (random.next() < 0.3 ? random.below(3) - 1 : 0)));
    const tensor = Tensor.zeros(this.#arena, value.dtype, random.next() < 0.2 ? shape.slice(1) : shape);
    if (random.next() < 0.3 && tensor.rank > 1) return tensor.transpose(0, 1);
    return tensor;
  }
}
