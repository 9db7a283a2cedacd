// Requests that are wrong, each in another way.
import type { Traffic } from "./neighbours.ts";

const encode = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);
const asText = (body: unknown): Uint8Array<ArrayBuffer> => encode(JSON.stringify(body));

const BAD: readonly Uint8Array<ArrayBuffer>[] = [
  encode('{"model":"demo","prompt":'),
  Uint8Array.of(0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d),
  asText({ model: "demo", prompt: 5 }),
  asText({ model: "other", prompt: "x" }),
  asText({ model: "demo", prompt: "x", max_tokens: -1 }),
  asText({ model: "demo", prompt: "x", temperature: "hot" }),
  asText({ model: "demo", prompt: "a long text ".repeat(80_000) }),
  encode(`${"[".repeat(5000)}${"]".repeat(5000)}`),
];

/** Bad requests, each to be answered by a status from 400 to 499. */
export function badRequests(url: string): Traffic {
  return {
    async send(index) {
      const body = BAD[index % BAD.length] ?? encode("");
      const headers = { "content-type": "application/json" };
      const { status } = await fetch(`${url}/v1/completions`, { method: "POST", headers, body });
      return status >= 400 && status < 500;
    },
  };
}
