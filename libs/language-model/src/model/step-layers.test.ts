import { expect, test } from "bun:test";
import { SharedHeap, Tensor } from "@lockstep/tensor";
import { MODEL_FOLDER } from "../../test/shipped-folder.ts";
import { Layers } from "../layers/layers.ts";
import type { WeightKind } from "../layers/weight.ts";
import { firstRows, openActivations } from "./activations.ts";
import { Checkpoint } from "./checkpoint.ts";
import { openModel } from "./model.ts";
import { modelFolder } from "./model-files.ts";
import { StepLayers } from "./step-layers.ts";
import { rankShare } from "./tensor-parallel.ts";
import { widestInput } from "./weight-parts.ts";
import { loadWeights } from "./weights.ts";

const MOST_TOKENS = 4;
const { config } = openModel(MODEL_FOLDER);

/** The products of the first layer's two segments that have several, as they run on rank 1 of 2. */
function products(weights: WeightKind, tokens: number): { attention: string[]; feedForward: string[] } {
  const heap = SharedHeap.create(64 << 20);
  const share = rankShare({ world: 2, dcp: 1, kvLayout: "sharded" }, 1, config);
  const layers = Layers.open(heap, { maxTokens: MOST_TOKENS, maxInputs: widestInput(config, share) });
  using checkpoint = Checkpoint.open(modelFolder("test", MODEL_FOLDER), config);
  let ran: string[] = [];
  const step = new StepLayers(
    {
      config,
      share,
      weights: loadWeights(checkpoint, config, share, layers, heap, { weights }),
      layers,
      runProgram: (program) => {
        ran = program.operations.filter((name) => name.startsWith("linear") || name === "quantiseInputs");
      },
    },
    { frequencies: Tensor.zeros(heap, "f32", [config.headDim / 2]), amplitude: Tensor.zeros(heap, "i32", [2]) },
    firstRows(openActivations(config, share, MOST_TOKENS, { heap, ownHeap: heap }), tokens),
    undefined,
  );
  const ranBy = (segment: (() => void) | undefined): string[] => {
    segment?.();
    return ran;
  };
  return { attention: ranBy(step.decoder[0]?.attentionInputs), feedForward: ranBy(step.decoder[0]?.feedForward) };
}

test("of a loaded model's weights, a token's query, key and value are one product, and its gate and up another", () => {
  expect(products("stored", 1)).toEqual({ attention: ["linearBf16"], feedForward: ["linearBf16", "linearBf16"] });
  const each = ["linearBf16", "linearBf16", "linearBf16"];
  expect(products("stored", 2)).toEqual({ attention: each, feedForward: each });
});

test("in int8 an input is quantised once for all of its products", () => {
  for (const tokens of [1, 2]) {
    expect(products("i8", tokens)).toEqual({
      attention: ["quantiseInputs", "linearInt8", "linearInt8", "linearInt8"],
      feedForward: ["quantiseInputs", "linearInt8", "linearInt8", "quantiseInputs", "linearInt8"],
    });
  }
});
