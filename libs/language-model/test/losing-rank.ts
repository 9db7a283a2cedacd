// The module of a worker of the test's own: a rank of an engine that loses its GPU, or dies, in the midst of a step in
// which it is given a certain prompt.
import type { RankContext } from "@lockstep/dist-groups";
import { runRank } from "@lockstep/dist-groups/rank";
import { globals } from "webgpu";
import * as engine from "../src/engine/engine-program.ts";
import type { ServeChanges } from "../src/engine/request-server.ts";

/** Prompts of two tokens: in the first step of one the device is lost, in that of the other rank 0 dies. */
const LOSES = [7, 7];
const DIES = [8, 8];

/** Devices that were opened here. */
const devices: GPUDevice[] = [];

// The package says of its classes only that they are objects.
const { GPUAdapter } = globals as { readonly GPUAdapter: { readonly prototype: GPUAdapter } };
const { requestDevice } = GPUAdapter.prototype;
GPUAdapter.prototype.requestDevice = async function noted(this: GPUAdapter, descriptor) {
  const device = await requestDevice.call(this, descriptor);
  devices.push(device);
  return device;
};

runRank({
  setup: async (context: RankContext, options: engine.EngineRankOptions) => {
    const methods = await engine.setup(context, options);
    const serve: typeof methods.serve = (changes: ServeChanges, ...rest) => {
      const isGiven = (wanted: readonly number[]): boolean =>
        changes.submit.some(({ prompt }) => prompt.join() === wanted.join());
      if (isGiven(LOSES)) for (const device of devices) device.destroy();
      if (isGiven(DIES) && context.rank === 0) {
        setTimeout(() => {
          throw new Error("died of it");
        }, 1);
      }
      return methods.serve(changes, ...rest);
    };
    return { ...methods, serve };
  },
});
