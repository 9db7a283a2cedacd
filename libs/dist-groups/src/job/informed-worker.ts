import type { HostTransport } from "../transport/world-transport.ts";
import type { TransportNotice } from "../rank/rank-protocol.ts";
import type { WebWorkerLike } from "../site/worker-like.ts";

type Listener = (event: object) => void;

/** The worker of a rank that hears the news of the host's end of the transport before the message that follows them. */
export class InformedWorker implements WebWorkerLike {
  readonly #worker: WebWorkerLike;
  readonly #transport: Pick<HostTransport, "news">;
  #heard: object | undefined;

  constructor(worker: WebWorkerLike, transport: Pick<HostTransport, "news">) {
    this.#worker = worker;
    this.#transport = transport;
  }

  postMessage(message: unknown, transfer: never[]): void {
    const { news } = this.#transport;
    if (news !== this.#heard) {
      this.#heard = news;
      const notice: TransportNotice = { lockstep: "transport", news };
      this.#worker.postMessage(notice, []);
    }
    this.#worker.postMessage(message, transfer);
  }

  addEventListener(type: string, listener: Listener): void {
    this.#worker.addEventListener(type, listener);
  }

  removeEventListener(type: string, listener: Listener): void {
    this.#worker.removeEventListener(type, listener);
  }

  terminate(): void {
    this.#worker.terminate();
  }
}
