import { connect } from "node:net";

/** A connection of bytes as they are, for what no client of HTTP would send. */
export class RawConnection implements Disposable {
  readonly #socket;
  #text = "";
  /** Resolves when the other side has ended it, or it has failed. */
  readonly ended: Promise<void>;

  constructor(url: string) {
    const { hostname, port } = new URL(url);
    this.#socket = connect(Number(port), hostname);
    const ended = Promise.withResolvers<void>();
    this.ended = ended.promise;
    this.#socket.setEncoding("utf8");
    this.#socket.on("data", (text: string) => {
      this.#text += text;
    });
    // What failed has ended: "close" follows.
    this.#socket.on("error", () => {});
    this.#socket.on("close", () => ended.resolve());
    this.#socket.on("end", () => ended.resolve());
  }

  /** What has come so far. */
  get text(): string {
    return this.#text;
  }

  /** Of the answer; undefined while there is none. */
  get status(): number | undefined {
    const [, status] = /^HTTP\/1\.1 (\d{3}) /.exec(this.#text) ?? [];
    return status === undefined ? undefined : Number(status);
  }

  write(text: string): void {
    this.#socket.write(text);
  }

  /** Reads nothing until {@link RawConnection.resume}. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Says that nothing more comes from here. */
  end(): void {
    this.#socket.end();
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}
