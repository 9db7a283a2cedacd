import { expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { denoBinary } from "../../scripts/deno-binary.ts";

setDefaultTimeout(300_000);

const script = fileURLToPath(new URL("./late-import.ts", import.meta.url));

/** Name, class before and after the import, instance, message, fields, causes. */
const EXPECTED = [
  'ArgumentError | ArgumentError | ArgumentError | true | true | {"_tag":"ArgumentError","operation":"f","argument":"x","expected":"1","received":"2"} | []',
  'HeapExhausted | HeapExhausted | HeapExhausted | true | true | {"_tag":"HeapExhausted","heap":"heap","requestedBytes":1,"freeBytes":2,"largestFreeBytes":3,"totalBytes":4} | []',
  'InvalidFree | InvalidFree | InvalidFree | true | true | {"_tag":"InvalidFree"} | []',
  'SafetensorsError | SafetensorsError | SafetensorsError | true | true | {"_tag":"SafetensorsError"} | []',
  'BackendUnavailable | RemoteError | BackendUnavailable | true | true | {"_tag":"BackendUnavailable","backend":"webgpu"} | []',
  'BackendClosed | RemoteError | BackendClosed | true | true | {"_tag":"BackendClosed"} | []',
  'DeviceError | RemoteError | DeviceError | true | true | {"_tag":"DeviceError"} | []',
  'OutOfBlocks | RemoteError | OutOfBlocks | true | true | {"_tag":"OutOfBlocks","needed":3,"free":1,"total":2} | []',
  'StepOrderError | RemoteError | StepOrderError | true | true | {"_tag":"StepOrderError"} | []',
  'OptionsDisagree | OptionsDisagree | OptionsDisagree | true | true | {"_tag":"OptionsDisagree","group":"world","what":"open","option":"a","sides":[{"ranks":[0],"value":"1"}],"disagreements":[{"option":"a","sides":[{"ranks":[0],"value":"1"}]}]} | []',
  'CollectiveTimeout | CollectiveTimeout | CollectiveTimeout | true | false | {"_tag":"CollectiveTimeout","group":"world","op":"barrier","sequence":3,"missing":[1],"deadlineMs":5} | []',
  'CallInterrupted | CallInterrupted | CallInterrupted | true | true | {"_tag":"CallInterrupted","method":"step","ranks":[0]} | []',
  'GroupAborted | GroupAborted | GroupAborted | true | true | {"_tag":"GroupAborted","group":"world","op":"barrier","failedRanks":[0]} | [RankCrashed[OutOfBlocks[]]]',
  'UsageError | RemoteError | UsageError | true | true | {"_tag":"UsageError"} | []',
  'ModelError | RemoteError | ModelError | true | true | {"_tag":"ModelError"} | []',
  'UnfitOptions | RemoteError | UnfitOptions | true | true | {"_tag":"UnfitOptions","problem":"`world` must be less"} | []',
  "RangeError | RankCrashed | RankCrashed | true | true | {} | [RangeError[]]",
  "AggregateError | RankCrashed | RankCrashed | true | true | {} | [AggregateError[OutOfBlocks[], TypeError[]]]",
];

test.each([
  ["Bun", [process.execPath]],
  ["Deno", [denoBinary(), "run", "--allow-all", "--no-check", "--quiet"]],
] as const)("errors of every package arrive as themselves, whenever the host imports their class: %s", (_, command) => {
  const { exitCode, stdout, stderr } = Bun.spawnSync([...command, script], { timeout: 250_000 });
  expect(stderr.toString()).toBe("");
  expect(exitCode).toBe(0);
  const lines = stdout.toString().trim().split("\n");
  expect(lines).toEqual(EXPECTED);
});
