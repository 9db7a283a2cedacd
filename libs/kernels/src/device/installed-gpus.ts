import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { basename, join } from "node:path";

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
 * Linux only: elsewhere the list is empty, and the one GPU is what the system prefers.
 * @param root where /sys, /proc and /dev are, for tests
 */
export function installedGpus(root = "/"): InstalledGpu[] {
  if (process.platform !== "linux") return [];
  const devices = join(root, "sys/bus/pci/devices");
  const gpus = names(devices).flatMap((address): InstalledGpu[] => {
    const folder = join(devices, address);
    const driver = driverOf(folder);
    const isDisplay = text(join(folder, "class")).startsWith("0x03");
    const isUsable =
      isDisplay && driver !== undefined && !CONSOLE_DRIVERS.has(driver) && hasDevice(root, folder, driver);
    return isUsable ? [{ address, driver }] : [];
  });
  const dedicated = gpus.filter(({ address, driver }) => !(INTEGRATED.test(address) && /^(i915|xe)$/.test(driver)));
  return dedicated.length > 0 ? dedicated : gpus;
}

function driverOf(folder: string): string | undefined {
  try {
    return basename(readlinkSync(join(folder, "driver")));
  } catch {
    return undefined;
  }
}

/** True when the device file that a Vulkan driver opens is there, or when none is known of. */
function hasDevice(root: string, folder: string, driver: string): boolean {
  if (driver === "nvidia") {
    const information = text(join(root, "proc/driver/nvidia/gpus", basename(folder), "information"));
    const minor = /Device Minor:\s*(\d+)/.exec(information)?.[1];
    return minor === undefined || existsSync(join(root, `dev/nvidia${minor}`));
  }
  const render = names(join(folder, "drm")).find((name) => name.startsWith("renderD"));
  return render === undefined || existsSync(join(root, "dev/dri", render));
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

function text(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
