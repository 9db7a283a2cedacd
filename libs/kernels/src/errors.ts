import { LockstepError, registerErrorClass } from "@lockstep/tensor";

/** A backend that was asked for cannot run here. Nothing else is used in its place. */
export class BackendUnavailable extends LockstepError {
  static {
    registerErrorClass("BackendUnavailable", BackendUnavailable);
  }

  readonly _tag = "BackendUnavailable";
  /** The backend that was asked for. */
  readonly backend: string;

  constructor(backend: string, reason: string, advice: string) {
    super(`backend ${backend} cannot run here: ${reason}. ${advice}`);
    this.backend = backend;
  }
}

/** An op was called on a backend that had been closed. */
export class BackendClosed extends LockstepError {
  static {
    registerErrorClass("BackendClosed", BackendClosed);
  }

  readonly _tag = "BackendClosed";

  constructor(backend: string) {
    super(`backend ${backend} was closed: open a new one with openBackend.`);
  }
}

/** The GPU was lost, or rejected a kernel. */
export class DeviceError extends LockstepError {
  static {
    registerErrorClass("DeviceError", DeviceError);
  }

  readonly _tag = "DeviceError";

  constructor(device: string, reason: string) {
    super(`${device}: ${reason}`);
  }
}
