import type { GpuDevice } from "../device/gpu-device.ts";
import { DeviceError } from "../errors.ts";

/**
 * What the device has to say about what was asked of it. WebGPU calls do not throw: errors arrive later, by error
 * scopes, and become the failure of the op that is running or of the next one.
 */
export class Verdicts {
  readonly #gpu: GpuDevice;
  readonly #pending = new Set<Promise<void>>();
  #failure: DeviceError | undefined;
  #isLost = false;
  #failures = 0;

  constructor(gpu: GpuDevice) {
    this.#gpu = gpu;
  }

  /** Runs calls that create something; reports the errors that they raise as failures, `what` before them. */
  guard<T>(what: string, create: () => T): T {
    const { device } = this.#gpu;
    device.pushErrorScope("validation");
    device.pushErrorScope("out-of-memory");
    try {
      return create();
    } finally {
      this.#expect(what, device.popErrorScope());
      this.#expect(what, device.popErrorScope());
    }
  }

  /** Reports a failure. A lost device stays lost; another failure is forgotten once thrown. */
  fail(error: DeviceError, isLost = false): void {
    this.#failure ??= error;
    this.#failures++;
    this.#isLost ||= isLost;
  }

  /** How many there have been. */
  get failures(): number {
    return this.#failures;
  }

  /** True when a failure is waiting to be thrown. */
  get hasFailure(): boolean {
    return this.#failure !== undefined;
  }

  throwFailure(): void {
    const failure = this.#failure;
    if (!this.#isLost) this.#failure = undefined;
    if (failure !== undefined) throw failure;
  }

  /** Waits until nothing is pending; at once when nothing is. */
  async settle(): Promise<void> {
    while (this.#pending.size > 0) await Promise.all(this.#pending);
  }

  #expect(what: string, verdict: Promise<GPUError | null>): void {
    const noted: Promise<void> = verdict
      .then(
        (error) => {
          if (error !== null) this.fail(new DeviceError(this.#gpu.name, `${what}: ${error.message}`));
        },
        () => this.fail(new DeviceError(this.#gpu.name, "went away."), true),
      )
      .finally(() => this.#pending.delete(noted));
    this.#pending.add(noted);
  }
}
