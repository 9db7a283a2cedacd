// Structured clones over a byte stream: each with its length before it, in four bytes.

import type { Socket } from "node:net";
import v8 from "node:v8";

const HEAD_BYTES = 4;

/** Writes a value to a socket. */
export function writeFrame(socket: Socket, value: unknown): void {
  const body = v8.serialize(value);
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt32LE(body.length);
  socket.write(Buffer.concat([head, body]));
}

/** Finds the values in a stream. */
export class FrameReader<Value> {
  readonly #onValue: (value: Value) => void;
  #pending = Buffer.alloc(0);

  constructor(onValue: (value: Value) => void) {
    this.#onValue = onValue;
  }

  take(bytes: Uint8Array | string): void {
    const chunk = typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes;
    this.#pending = Buffer.concat([this.#pending, chunk]);
    while (this.#pending.length >= HEAD_BYTES) {
      const end = HEAD_BYTES + this.#pending.readUInt32LE();
      if (this.#pending.length < end) return;
      const body = this.#pending.subarray(HEAD_BYTES, end);
      this.#pending = this.#pending.subarray(end);
      this.#onValue(v8.deserialize(body) as Value);
    }
  }
}
