import { expect, setDefaultTimeout, test } from "bun:test";

setDefaultTimeout(120_000);

/** The next message of a worker; rejects when the worker fails. */
function nextMessage(worker: Worker): Promise<unknown> {
  return new Promise((resolve, reject) => {
    worker.onmessage = (event: MessageEvent<unknown>) => resolve(event.data);
    worker.onerror = (event) => {
      event.preventDefault();
      reject(new Error(event.message));
    };
  });
}

async function openAndEnd(): Promise<unknown[]> {
  const worker = new Worker(new URL("./worker-release.worker.ts", import.meta.url), { type: "module" });
  const messages = [await nextMessage(worker)];
  for (const command of ["open", "close"]) {
    const answer = nextMessage(worker);
    worker.postMessage(command);
    messages.push(await answer);
  }
  worker.terminate();
  return messages;
}

test("three workers of one process open a device each, release it and are terminated, five times over", async () => {
  for (let cycle = 0; cycle < 5; cycle++) {
    const workers = await Promise.all([openAndEnd(), openAndEnd(), openAndEnd()]);
    for (const messages of workers) expect(messages).toEqual(["ready", [1, 2, 3, 4, 5, 6], "closed"]);
  }
});
