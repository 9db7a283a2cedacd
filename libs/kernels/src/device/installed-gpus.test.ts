import { afterAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { installedGpus } from "./installed-gpus.ts";

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

/** A machine's /sys, /proc and /dev with these PCI devices, and these files. */
function machine(
  devices: Record<string, { class: string; driver?: string; drm?: string }>,
  files: Record<string, string> = {},
): string {
  const root = mkdtempSync(join(tmpdir(), "lockstep-machine-"));
  folders.push(root);
  const put = (path: string, text: string): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  for (const [address, device] of Object.entries(devices)) {
    const folder = `sys/bus/pci/devices/${address}`;
    put(`${folder}/class`, `${device.class}\n`);
    if (device.driver !== undefined) symlinkSync(`../../../drivers/${device.driver}`, join(root, folder, "driver"));
    if (device.drm !== undefined) mkdirSync(join(root, folder, "drm", device.drm), { recursive: true });
  }
  for (const [path, text] of Object.entries(files)) put(path, text);
  return root;
}

const addresses = (root: string): string[] => installedGpus(root).map(({ address }) => address);

test("two GPUs of NVIDIA's beside a server's console, a network card and a GPU without a driver", () => {
  const root = machine({
    "0000:09:00.0": { class: "0x030200", driver: "nvidia" },
    "0000:06:00.0": { class: "0x030200", driver: "nvidia" },
    "0000:02:00.0": { class: "0x030000", driver: "ast" },
    "0000:01:00.0": { class: "0x020000", driver: "mlx5_core" },
    "0000:0a:00.0": { class: "0x030200" },
  });
  expect(installedGpus(root)).toEqual([
    { address: "0000:06:00.0", driver: "nvidia" },
    { address: "0000:09:00.0", driver: "nvidia" },
  ]);
});

test("a container that was given one of two counts one", () => {
  const information = (minor: number): string => `Model: \t NVIDIA H200\nDevice Minor: \t ${minor}\n`;
  const root = machine(
    {
      "0000:06:00.0": { class: "0x030200", driver: "nvidia" },
      "0000:09:00.0": { class: "0x030200", driver: "nvidia" },
      "0000:0b:00.0": { class: "0x038000", driver: "amdgpu", drm: "renderD129" },
    },
    {
      "proc/driver/nvidia/gpus/0000:06:00.0/information": information(0),
      "proc/driver/nvidia/gpus/0000:09:00.0/information": information(1),
      "dev/nvidia1": "",
      "dev/dri/renderD128": "",
    },
  );
  expect(addresses(root)).toEqual(["0000:09:00.0"]);
});

test("a processor's graphics count only when alone", () => {
  const integrated = { class: "0x030000", driver: "i915", drm: "renderD128" };
  const files = { "dev/dri/renderD128": "", "dev/dri/renderD129": "" };
  expect(addresses(machine({ "0000:00:02.0": integrated }, files))).toEqual(["0000:00:02.0"]);
  const dedicated = { class: "0x030000", driver: "xe", drm: "renderD129" };
  expect(addresses(machine({ "0000:00:02.0": integrated, "0000:03:00.0": dedicated }, files))).toEqual([
    "0000:03:00.0",
  ]);
});

test("a machine without any, and one without PCI", () => {
  expect(installedGpus(machine({ "0000:01:00.0": { class: "0x020000", driver: "e1000" } }))).toEqual([]);
  expect(installedGpus("/nowhere")).toEqual([]);
});
