import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BackendUnavailable } from "../errors.ts";
import { setCEnvironment, unsetCEnvironment } from "./c-environment.ts";
import { withProcessLock } from "./process-lock.ts";
import { withGpuSelected } from "./select-gpu.ts";
import { outcomeOf } from "../../../../tests/outcome-of.ts";

setDefaultTimeout(30_000);

const gpus = ["0000:06:00.0", "0000:09:00.0", "0000:0b:00.1"].map((address) => ({ address, driver: "nvidia" }));
const NAMES = ["DRI_PRIME", "MESA_VK_DEVICE_SELECT_FORCE_DEFAULT_DEVICE"];

/** Values of the C environment, which Bun's process.env does not show. */
function environment(): (string | undefined)[] {
  return NAMES.map((name) => {
    const before = setCEnvironment(name, "asked");
    if (before === undefined) unsetCEnvironment(name);
    else setCEnvironment(name, before);
    return before;
  });
}

async function seen(index: number | undefined): Promise<(string | undefined)[]> {
  return withGpuSelected(index, async () => environment(), { gpus, hasLayer: true });
}

test("each index names its GPU to the layer while a device is asked for, in turn, and leaves nothing behind", async () => {
  const [before = "none"] = environment();
  const chosen = await Promise.all([0, 1, 2, 3, undefined].map(seen));
  const addresses = ["pci-0000_06_00_0", "pci-0000_09_00_0", "pci-0000_0b_00_1", "pci-0000_06_00_0"];
  expect(chosen.slice(0, 4)).toEqual(addresses.map((address) => [address, "1"]));
  expect(chosen[4]?.[0] ?? "none").toBe(before);
  expect(environment()[0] ?? "none").toBe(before);
});

test("what the user chose is there again afterwards, also when opening fails", async () => {
  const before = setCEnvironment("DRI_PRIME", "pci-0000_0b_00_1");
  try {
    const failing = withGpuSelected(0, () => Promise.reject(new Error("no adapter")), { gpus, hasLayer: true });
    expect(await outcomeOf(failing)).toThrow("no adapter");
    expect(environment()[0]).toBe("pci-0000_0b_00_1");
  } finally {
    if (before === undefined) unsetCEnvironment("DRI_PRIME");
    else setCEnvironment("DRI_PRIME", before);
  }
});

test("an index among several GPUs without the layer is an error that says what to install; one needs none", async () => {
  const opening = withGpuSelected(1, async () => "opened", { gpus, hasLayer: false });
  expect(await outcomeOf(opening)).toThrow(BackendUnavailable);
  expect(await outcomeOf(opening)).toThrow(/3 GPUs, and GPU 1 .*Debian: mesa-vulkan-drivers/);
  expect(await withGpuSelected(undefined, async () => "opened", { gpus, hasLayer: false })).toBe("opened");
  expect(
    await withGpuSelected(5, async () => environment()[1] ?? "", { gpus: gpus.slice(0, 1), hasLayer: false }),
  ).toBe("");
});

test("one holder of a lock at a time, whatever it throws", async () => {
  let holders = 0;
  const hold = (fails: boolean) =>
    withProcessLock("test", async () => {
      expect(++holders).toBe(1);
      await new Promise((resolve) => setTimeout(resolve, 3));
      holders--;
      if (fails) throw new Error("failed");
    }).catch((error: unknown) => expect(String(error)).toContain("failed"));
  await Promise.all([false, true, false, true, false].map(hold));
  expect(holders).toBe(0);
});

test("a lock whose holder ended long ago is taken over", async () => {
  const file = join(tmpdir(), `lockstep-left-${process.pid}.lock`);
  writeFileSync(file, "");
  const past = Date.now() / 1000 - 100;
  utimesSync(file, past, past);
  expect(await withProcessLock("left", async () => "run")).toBe("run");
  expect(existsSync(file)).toBe(false);
});
