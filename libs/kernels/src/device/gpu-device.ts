import { BackendUnavailable } from "../errors.ts";
import { expectInteger } from "../operand.ts";
import { type AdapterKind, describeAdapter, isSoftwareAdapter } from "./adapter.ts";
import { eventLoopTurns } from "./dawn.ts";
import { packsHalvesExactly } from "./f16-packing.ts";
import { findAdapter } from "./find-adapter.ts";
import type { GpuInstance } from "./gpu-instance.ts";
import { hasMatrixUnits, MATRIX_FEATURES, type MatrixUnits } from "./matrix-units.ts";
import { pinDriverLibraries } from "./pin-driver.ts";
import { subgroupWidth } from "./subgroup-width.ts";

/** An open device and what kernels need to know of it. */
export interface GpuDevice {
  readonly device: GPUDevice;
  /** For people: the adapter's name. */
  readonly name: string;
  /** True when it runs on the CPU. */
  readonly software: boolean;
  /**
   * Threads that can exchange registers by subgroup operations, whatever size a subgroup happens to have; a power of
   * two. 0: kernels must go through workgroup memory instead.
   */
  readonly subgroupWidth: number;
  /**
   * How kernels multiply 16-bit matrices: "native" by matrix units (f16 times f16 into f32, subgroups of 32 threads),
   * "emulated" in plain arithmetic, for tests; undefined: not at all.
   */
  readonly matrixUnits: MatrixUnits | undefined;
  /** True when a row's bits must depend on its own tokens alone: as in {@link GpuDeviceOptions}. */
  readonly batchInvariant: boolean;
  /** True when WGSL's pack2x16float is known to round to the nearest f16, ties to even, here. */
  readonly packsHalves: boolean;
  /** True when this project opened the device, so that nobody else submits work to it. */
  readonly owned: boolean;
  /** For tests: bytes of partial results that batch-invariant attention may have at a time. */
  readonly splitBytes?: number;
  /** For benches: where the next compute pass writes its timestamps, if anywhere. */
  readonly passTimestamps?: () => GPUComputePassTimestampWrites | undefined;
  /**
   * Lets go of the device; destroys it if it is owned. Await it before ending the worker it was opened in: terminating
   * a worker whose device is alive can abort the process.
   */
  release(): Promise<void>;
}

/** How to open a device. */
export interface GpuDeviceOptions {
  /** Default "hardware". Ignored when a device is given. */
  readonly adapter?: AdapterKind;
  /** A device of the caller's, used as it is and never destroyed. */
  readonly device?: GPUDevice;
  /**
   * Which of several GPUs, from 0 in the order of {@link installedGpus}, modulo their number. Default: the one that the
   * system prefers. With one GPU, every index means that one.
   */
  readonly index?: number;
  /** false: kernels use workgroup memory even where there are subgroups. Default true. */
  readonly subgroups?: boolean;
  /**
   * "native": kernels use matrix units where the device has them. "emulated": they compute as if it had, slowly, for
   * tests. "off": never. Default "native".
   */
  readonly matrices?: MatrixUnits | "off";
  /** true: attention adds a row's keys in an order that nothing else in the step decides. Default false: the fastest. */
  readonly batchInvariant?: boolean;
  /** Features to request beside those that kernels use, such as "timestamp-query". */
  readonly features?: readonly GPUFeatureName[];
  /** Dawn's own options, such as "disable-dawn-features=timestamp_quantization"; a name set here replaces ours. */
  readonly dawnOptions?: readonly string[];
}

/** Opens a GPU device, or wraps the caller's. Throws BackendUnavailable, with what to install, when there is none. */
export async function openGpuDevice(options: GpuDeviceOptions = {}): Promise<GpuDevice> {
  const { device, adapter = "hardware", index } = options;
  if (index !== undefined) expectInteger("openGpuDevice", "index", index, 0, 2 ** 16);
  if (device !== undefined) {
    const info = device.adapterInfo as GPUAdapterInfo | undefined;
    return wrapDevice(device, false, hasMatrixUnits(device.features, info), options, eventLoopTurnsOnce);
  }
  if (adapter !== "any") return openAdapter(adapter, options);
  try {
    return await openAdapter("hardware", options);
  } catch (error) {
    if (!(error instanceof BackendUnavailable)) throw error;
    return openAdapter("software", options);
  }
}

type RequestOptions = Omit<GpuDeviceOptions, "adapter" | "device">;

async function openAdapter(kind: "hardware" | "software", options: RequestOptions): Promise<GpuDevice> {
  const { instance, adapter } = await findAdapter(kind, options);
  try {
    return await openOn(instance, adapter, kind, options);
  } catch (error) {
    await instance.release();
    throw error;
  }
}

/** Opens a device on an adapter. Exported for tests. */
export async function openOn(
  instance: GpuInstance,
  adapter: GPUAdapter,
  kind: "hardware" | "software",
  options: RequestOptions,
): Promise<GpuDevice> {
  const { limits } = adapter;
  const hasUnits = hasMatrixUnits(adapter.features, adapter.info);
  const wanted: GPUFeatureName[] = ["subgroups", ...(hasUnits ? MATRIX_FEATURES : [])];
  const device = await adapter.requestDevice({
    label: "lockstep",
    requiredFeatures: [...wanted.filter((name) => adapter.features.has(name)), ...(options.features ?? [])],
    requiredLimits: {
      maxBufferSize: limits.maxBufferSize,
      maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
      maxStorageBuffersPerShaderStage: limits.maxStorageBuffersPerShaderStage,
      maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
      maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
      maxComputeWorkgroupSizeX: limits.maxComputeWorkgroupSizeX,
    },
  });
  if (kind === "hardware") pinDriverLibraries();
  const release = async (): Promise<void> => {
    device.destroy();
    await device.lost;
    await instance.release();
  };
  try {
    return await wrapDevice(device, true, hasUnits, options, release);
  } catch (error) {
    device.destroy();
    throw error;
  }
}

async function wrapDevice(
  device: GPUDevice,
  owned: boolean,
  hasUnits: boolean,
  { subgroups = true, matrices = "native", batchInvariant = false }: RequestOptions,
  release: () => Promise<void>,
): Promise<GpuDevice> {
  const info = device.adapterInfo as GPUAdapterInfo | undefined;
  const software = info !== undefined && isSoftwareAdapter(info);
  const isNative = hasUnits && subgroups && matrices === "native";
  return {
    device,
    name: info === undefined ? "GPU device of the caller" : describeAdapter(info),
    software,
    subgroupWidth: subgroups ? await subgroupWidth(device) : 0,
    packsHalves: !software && (await packsHalvesExactly(device)),
    matrixUnits: matrices === "emulated" ? "emulated" : isNative ? "native" : undefined,
    batchInvariant,
    owned,
    release,
  };
}

async function eventLoopTurnsOnce(): Promise<void> {
  await eventLoopTurns(1);
}
