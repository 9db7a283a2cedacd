import {
  type AttentionOperands,
  type AttentionPlan,
  type AttentionStep,
  type BackendName,
  type Completion,
  checkArguments,
  checkAttentionPlan,
  type DeviceSharing,
  type GpuTensor,
  gpuSumsBorder,
  gpuSumsWidth,
  type KernelBackend,
  type KernelContext,
  type Operand,
  type OpArguments,
  OpMethods,
  type OpName,
  opResults,
  type PagedCacheSize,
  type PartialAttentionArgs,
  RepeatedArguments,
  SlotPlan,
  type WriteKvCacheArgs,
} from "@lockstep/kernels";
import { ArgumentError, type DType, type Tensor } from "@lockstep/tensor";
import type { Call } from "./op-call.ts";

/**
 * After so many fences the ops before them are run, and not only with the next results in the heap: more would leave
 * the GPU idle while a step of many layers is called, fewer would cost the ranks a meeting each.
 */
export const FENCES_PER_RUN = 16;

/** A backend of a GPU that ranks share: every op goes one way, which its two sides make out. */
export abstract class CollectiveBackend extends OpMethods implements KernelBackend, DeviceSharing {
  readonly name: BackendName = "webgpu";
  readonly isSynchronous = false;
  readonly memory = "device";
  readonly waitsForRanks = true;
  readonly roundsAsCollectives = false;
  abstract readonly device: string;
  abstract readonly batchInvariant: boolean;
  abstract readonly context: KernelContext;

  readonly #calls = new RepeatedArguments<Call>();
  readonly #attentions = new RepeatedArguments<AttentionOperands>("plan");

  /** As of a backend alone; sums that go on lie on the GPU, where every rank's calls find them. */
  override partialAttention(args: PartialAttentionArgs): Completion {
    if (args.sums?.state.place === "heap") {
      throw new ArgumentError("partialAttention", "sums.state", "on the GPU, made by `empty`", "a tensor in a heap");
    }
    return super.partialAttention(args);
  }

  override writeKvCache(args: WriteKvCacheArgs): Completion {
    const { slotMapping } = args;
    return super.writeKvCache(slotMapping instanceof SlotPlan ? { ...args, slotMapping: slotMapping.slots } : args);
  }

  /**
   * A call to be run later, of arguments that were checked. One that comes again with the same operands on the GPU is
   * the same call: all but its plan was checked before.
   * @param hold what of arguments stays as it is whatever the caller does
   * @throws ArgumentError, UseAfterFree
   */
  protected heldCall<Name extends OpName>(
    name: Name,
    args: OpArguments[Name],
    hold: <T extends object>(args: T) => T,
  ): Call {
    if (name === "partialAttention") return this.#heldAttention(args as OpArguments["partialAttention"], hold);
    const key = opResults(name, args)[0];
    const known = key && this.#calls.find(key, [args]);
    if (known?.[0] === name) return known;
    checkArguments(name, args);
    const call = [name, hold(args)] as unknown as Call;
    if (key !== undefined) this.#calls.note(key, [args], () => call);
    return call;
  }

  #heldAttention(args: OpArguments["partialAttention"], hold: <T extends object>(args: T) => T): Call {
    const name = "partialAttention";
    if (args.plan === undefined) {
      checkArguments(name, args);
      return [name, hold(args)];
    }
    const known = this.#attentions.find(args.keyCache, [args]);
    if (known !== undefined) {
      checkAttentionPlan(args);
      return [name, { ...known, ...hold({ plan: args.plan }) }];
    }
    checkArguments(name, args);
    const held = hold(args);
    const { plan, ...operands } = held;
    this.#attentions.note(args.keyCache, [args], () => operands);
    return [name, held];
  }

  sumsWidth(valueDim: number): number | undefined {
    return gpuSumsWidth(this.batchInvariant, valueDim);
  }

  sumsBorder(keyDim: number, valueDim: number): number {
    return gpuSumsBorder(this.batchInvariant, keyDim, valueDim);
  }

  get sharing(): DeviceSharing {
    return this;
  }

  abstract readonly ranks: readonly number[];
  abstract show(make: () => readonly GpuTensor[]): Promise<readonly (readonly GpuTensor[])[]>;
  abstract fence(): Completion;
  abstract planAttention(step: AttentionStep, size: PagedCacheSize): AttentionPlan;
  abstract empty(dtype: DType, shape: readonly number[]): Operand;
  abstract upload(source: Tensor, target: Operand): Completion;
  abstract download(source: Operand, target: Tensor): Completion;
  abstract batch(run: () => void): Completion;
  abstract close(): Promise<void>;

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
