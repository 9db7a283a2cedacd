// What the server sends; the consumer tests open the page in Chromium.
import { expect, setDefaultTimeout, test } from "bun:test";

setDefaultTimeout(120_000);

test("page and scripts come with the headers that isolate a page, and need nothing else", async () => {
  const child = Bun.spawn([process.execPath, "server.ts"], { cwd: import.meta.dir, stdout: "pipe", stderr: "inherit" });
  try {
    let said = "";
    for await (const bytes of child.stdout) {
      said += new TextDecoder().decode(bytes);
      if (said.includes("\n")) break;
    }
    const address = /http:\S+/.exec(said)?.[0] ?? "";
    for (const [path, status, type] of [
      ["", 200, "text/html"],
      ["page.js", 200, "text/javascript"],
      ["worker.js", 200, "text/javascript"],
      ["server.ts", 404, ""],
    ] as const) {
      const response = await fetch(new URL(path, address));
      expect([path, response.status]).toEqual([path, status]);
      expect(response.headers.get("content-type") ?? "").toStartWith(type);
      expect(response.headers.get("cross-origin-opener-policy")).toBe("same-origin");
      expect(response.headers.get("cross-origin-embedder-policy")).toBe("require-corp");
      const text = await response.text();
      if (path.endsWith(".js")) expect(text).not.toMatch(/^import .* from "(?!node:)/m);
    }
    child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
  } finally {
    child.kill("SIGKILL");
  }
});
