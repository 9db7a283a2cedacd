import { OutOfBlocks, StepOrderError } from "@lockstep/attention";
import { CallInterrupted, CollectiveTimeout, GroupAborted, OptionsDisagree, RankCrashed } from "@lockstep/dist-groups";
import { BackendClosed, BackendUnavailable, DeviceError } from "@lockstep/kernels";
import { ModelError, UnfitOptions } from "@lockstep/language-model";
import { ArgumentError, HeapExhausted, InvalidFree, SafetensorsError } from "@lockstep/tensor";
import { UsageError } from "@lockstep/demo/errors";

/** Errors of every package. */
export const THROWN: readonly (() => Error)[] = [
  () => new ArgumentError("f", "x", "1", "2"),
  () => new HeapExhausted("heap", 1, 2, 3, 4),
  () => new InvalidFree("heap", 128, "no"),
  () => new SafetensorsError("file", "this", "that"),
  () => new BackendUnavailable("webgpu", "no GPU", "Get one."),
  () => new BackendClosed("webgpu"),
  () => new DeviceError("webgpu", "lost"),
  () => new OutOfBlocks(3, 1, 2),
  () => new StepOrderError("attend", "beginStep first"),
  () => new OptionsDisagree("world", "open", [{ option: "a", sides: [{ ranks: [0], value: "1" }] }]),
  () => new CollectiveTimeout("world", "barrier", 3, [1], 5),
  () => new CallInterrupted("step", [0], "a signal"),
  () => new GroupAborted("world", "barrier", [0], new RankCrashed(0, "boom", new OutOfBlocks(1, 2, 3))),
  () => new UsageError("no such option"),
  () => new ModelError("config.json", "this", "that"),
  () => new UnfitOptions("`world` must be less"),
  () => new RangeError("of the language"),
  () => new AggregateError([new OutOfBlocks(5, 6, 7), new TypeError("t")], "several"),
];

/** Called by the world on every rank. */
export function setup() {
  return {
    throwNumber(at: number): void {
      const make = THROWN[at];
      if (make !== undefined) throw make();
    },
  };
}
