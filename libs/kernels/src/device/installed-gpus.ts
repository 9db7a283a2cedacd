import { builtinModule, platformName } from "@lockstep/tensor";

type Files = typeof import("node:fs");

/** A GPU that is built in and may be used here. */
export interface InstalledGpu {
  /** Its place on the PCI bus, such as "0000:06:00.0". */
  readonly address: string;
  /** The kernel's driver for it, such as "nvidia". */
  readonly driver: string;
}

/** Drivers of display adapters that no Vulkan driver belongs to: of servers' consoles and of virtual machines. */
const CONSOLE_DRIVERS = new Set([
  "ast",
  "bochs-drm",
  "bochs",
  "cirrus",
  "cirrus-qemu",
  "mgag200",
  "hyperv_drm",
  "vmwgfx",
]);
const INTEGRATED = /^0000:00:/;

/**
 * The GPUs of this machine in the order of their PCI addresses. A graphics unit built into an Intel processor counts
 * only when there is nothing else; GPUs whose device files are missing, as in a container that was given others, do not
 * count.
 *
 * Linux only: elsewhere, and in browsers, the list is empty, and the one GPU is what the system prefers.
 * @param root where /sys, /proc and /dev are, for tests
 */
export function installedGpus(root = "/"): InstalledGpu[] {
  const files = builtinModule<Files>("node:fs");
  if (platformName() !== "linux" || files === undefined) return [];
  const devices = `${root}/sys/bus/pci/devices`;
  const gpus = names(files, devices).flatMap((address): InstalledGpu[] => {
    const driver = driverOf(files, `${devices}/${address}`);
    const isDisplay = text(files, `${devices}/${address}/class`).startsWith("0x03");
    const isUsable =
      isDisplay && driver !== undefined && !CONSOLE_DRIVERS.has(driver) && hasDevice(files, root, address, driver);
    return isUsable ? [{ address, driver }] : [];
  });
  const dedicated = gpus.filter(({ address, driver }) => !(INTEGRATED.test(address) && /^(i915|xe)$/.test(driver)));
  return dedicated.length > 0 ? dedicated : gpus;
}

function driverOf(files: Files, folder: string): string | undefined {
  try {
    return files.readlinkSync(`${folder}/driver`).split("/").at(-1);
  } catch {
    return undefined;
  }
}

/** True when the device file that a Vulkan driver opens is there, or when none is known of. */
function hasDevice(files: Files, root: string, address: string, driver: string): boolean {
  if (driver === "nvidia") {
    const information = text(files, `${root}/proc/driver/nvidia/gpus/${address}/information`);
    const minor = /Device Minor:\s*(\d+)/.exec(information)?.[1];
    return minor === undefined || files.existsSync(`${root}/dev/nvidia${minor}`);
  }
  const render = names(files, `${root}/sys/bus/pci/devices/${address}/drm`).find((name) => name.startsWith("renderD"));
  return render === undefined || files.existsSync(`${root}/dev/dri/${render}`);
}

function names(files: Files, folder: string): string[] {
  try {
    return files.readdirSync(folder).sort();
  } catch {
    return [];
  }
}

function text(files: Files, file: string): string {
  try {
    return files.readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
