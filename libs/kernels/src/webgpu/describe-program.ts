import type { Operand } from "../operand.ts";
import { type BindingUse, type CompiledKernel, overridesOf } from "./compiled-kernel.ts";
import type { Copy, Dispatch } from "./commands.ts";
import type { Recording } from "./describing-recorder.ts";
import type { Region } from "./region.ts";
import type {
  WgslBinding,
  WgslCopy,
  WgslDispatch,
  WgslField,
  WgslOperandRange,
  WgslProgram,
  WgslScratchRange,
  WgslWords,
} from "./wgsl-program.ts";

/** Memory that lives for the program. */
interface Scratch {
  readonly home: unknown;
  readonly offset: number;
  size: number;
}

/** Directives of WGSL, and the features that they need. */
const FEATURES: Readonly<Record<string, string>> = { subgroups: "subgroups", f16: "shader-f16" };
const TYPES: Readonly<Record<BindingUse, WgslBinding["type"]>> = {
  uniform: "uniform",
  read: "read-only-storage",
  write: "storage",
  update: "storage",
};

/** What was recorded, in WebGPU's terms. `operands` are those of the arguments, by their names. */
export function describeProgram(recording: Recording, operands: ReadonlyMap<string, Operand>): WgslProgram {
  const { commands } = recording;
  const scratch = scratchOf(
    commands.filter((command) => command.kind === "dispatch"),
    copiesOf(recording),
  );
  const toOperand = (region: Region, size: number): WgslOperandRange => {
    const { offset } = region;
    return { kind: "operand", argument: argumentOf(recording, region, operands), offset, size };
  };
  const toScratch = (region: Region, size: number): WgslScratchRange | undefined => {
    const index = scratch.findIndex((one) => holds(one, region));
    const found = scratch[index];
    return found && { kind: "scratch", scratch: index, offset: region.offset - found.offset, size };
  };
  const steps = commands.flatMap((command): (WgslDispatch | WgslCopy)[] => {
    if (command.kind === "dispatch") {
      const step = describeDispatch(recording, command, (region) =>
        typeof region.home === "string" ? toScratch(region, region.size) : toOperand(region, region.size),
      );
      return [step];
    }
    const to = toScratch(command.to, command.bytes);
    // A copy for a dispatch that has nothing to do is for nobody.
    return to === undefined ? [] : [{ kind: "copy", from: toOperand(command.from, command.bytes), to }];
  });
  return { steps, scratch: scratch.map(({ size }) => size) };
}

function copiesOf({ commands }: Recording): readonly Copy[] {
  return commands.filter((command) => command.kind === "copy");
}

/** Regions of dispatches that earlier steps write: those of the scratch pool, and those that are copied to. */
function scratchOf(dispatches: readonly Dispatch[], copies: readonly Copy[]): Scratch[] {
  const found: Scratch[] = [];
  for (const { regions } of dispatches) {
    for (const region of regions) {
      const { home, offset, size } = region;
      const isScratch = home === "scratch" || copies.some(({ to }) => holds(region, to));
      const known = found.find((one) => one.home === home && one.offset === offset);
      if (known !== undefined) known.size = Math.max(known.size, size);
      else if (isScratch) found.push({ home, offset, size });
    }
  }
  return found;
}

function holds(one: Scratch, { home, offset }: Region): boolean {
  return one.home === home && offset >= one.offset && offset < one.offset + one.size;
}

/** The name of an argument in whose buffer a region lies. */
function argumentOf(recording: Recording, region: Region, operands: ReadonlyMap<string, Operand>): string {
  const known = recording.operandOf(region);
  const named = [...operands];
  const [name] =
    named.find(([, operand]) => operand === known) ??
    named.find(([, operand]) => operand.place === "device" && operand.memory === region.home) ??
    [];
  if (name === undefined) throw new RangeError("a region of no argument");
  return name;
}

function describeDispatch(
  recording: Recording,
  { kernel, regions, grid }: Dispatch,
  rangeOf: (region: Region) => WgslOperandRange | WgslScratchRange | undefined,
): WgslDispatch {
  const { key, wgsl, entryPoint } = recording.sourceOf(kernel);
  const code = wgsl();
  const names = new Map(
    Array.from(code.matchAll(/@group\(0\) @binding\((\d+)\) var<[^>]*> (\w+):/g), ([, at, name = ""]) => [
      Number(at),
      name,
    ]),
  );
  return {
    kind: "dispatch",
    key,
    code,
    entryPoint,
    constants: overridesOf(code, recording.packsHalves),
    features: Array.from(
      code.matchAll(/^enable (\w+);/gm),
      ([, name = ""]) => FEATURES[name] ?? name.replaceAll("_", "-"),
    ),
    workgroupSize: workgroupSizeOf(code),
    bindings: regions.map((region, binding) => ({
      group: 0,
      binding,
      name: names.get(binding) ?? "",
      type: typeOf(kernel, binding),
      contents: rangeOf(region) ?? wordsOf(recording, region),
    })),
    workgroups: [...grid, 1],
  };
}

function typeOf(kernel: CompiledKernel, binding: number): WgslBinding["type"] {
  return TYPES[kernel.bindings[binding] ?? "read"];
}

function wordsOf(recording: Recording, region: Region): WgslWords {
  const words = new Uint32Array(recording.staging.slice(region.offset, region.offset + region.size));
  const fields = recording.fieldsOf(region)?.map(({ name, type }, index): WgslField => {
    if (type !== "u32" && type !== "i32" && type !== "f32") throw new RangeError(`${name} is no word but ${type}`);
    return { name, type, offset: 4 * index };
  });
  return { kind: "words", words, fields };
}

function workgroupSizeOf(code: string): number {
  const name = /@workgroup_size\((\w+)\)/.exec(code)?.[1] ?? "";
  const size = new RegExp(`const ${name} = (\\d+)u;`).exec(code)?.[1];
  if (size === undefined) throw new RangeError("a kernel without a workgroup size");
  return Number(size);
}
