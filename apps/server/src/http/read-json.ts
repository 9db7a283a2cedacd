// The JSON of a request's body: read piece by piece, so that no more is kept than is allowed.
import type { Limits } from "../limits.ts";
import { ApiError } from "./api-error.ts";
import { jsonShape } from "./json-shape.ts";

/** The connection cannot be used for another request: the rest of the body is not read. */
const CLOSE = { connection: "close" };

/** @throws ApiError for what is no JSON in UTF-8, too long, too deep, or too late */
export async function readJson(request: Request, limits: Limits): Promise<unknown> {
  expectJsonType(request.headers);
  const bytes = await readBytes(request, limits);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(bytes);
  } catch {
    throw new ApiError(400, "The body must be UTF-8, but has bytes that are not.", { code: "invalid_utf8" });
  }
  const { depth, fields } = jsonShape(text);
  if (depth > limits.jsonDepth) {
    const message = `The body may have ${limits.jsonDepth} objects and lists within one another, but has ${depth}.`;
    throw new ApiError(400, message, { code: "json_too_deep" });
  }
  if (fields > limits.jsonFields) {
    const message = `The objects of the body may have ${limits.jsonFields} fields together, but have ${fields}.`;
    throw new ApiError(400, message, { code: "json_too_many_fields" });
  }
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError(400, "The body must be JSON, but cannot be read as such.", { code: "invalid_json" });
  }
}

function expectJsonType(headers: Headers): void {
  const type = (headers.get("content-type") ?? "").split(";")[0]?.trim().toLowerCase();
  if (type !== "application/json") {
    const message = "The body must be JSON, and the header say so: content-type: application/json.";
    throw new ApiError(415, message, { code: "unsupported_media_type" });
  }
  const encoding = headers.get("content-encoding")?.trim().toLowerCase();
  if (encoding !== undefined && encoding !== "identity" && encoding !== "") {
    throw new ApiError(415, "The body must not be compressed.", { code: "unsupported_encoding" });
  }
}

async function readBytes(request: Request, { bodyBytes, bodyMs }: Limits): Promise<Uint8Array> {
  const tooLong = (): ApiError =>
    new ApiError(413, `The body may have ${bodyBytes} bytes, but has more.`, {
      code: "body_too_large",
      headers: CLOSE,
    });
  if (Number(request.headers.get("content-length") ?? 0) > bodyBytes) throw tooLong();
  if (request.body === null) return new Uint8Array();
  const reader = request.body.getReader();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<"late">((resolve) => {
    timer = setTimeout(() => resolve("late"), bodyMs);
  });
  const parts: Uint8Array[] = [];
  let length = 0;
  try {
    for (;;) {
      const read = await Promise.race([reader.read().catch(() => "broken" as const), late]);
      if (read === "late") {
        const message = `The body must have come within ${bodyMs / 1000} s, but had not.`;
        throw new ApiError(408, message, { code: "body_timeout", headers: CLOSE });
      }
      if (read === "broken") throw new ApiError(400, "The body was cut short.", { code: "body_cut_short" });
      if (read.done) break;
      length += read.value.length;
      if (length > bodyBytes) throw tooLong();
      parts.push(read.value);
    }
  } catch (error) {
    reader.cancel().catch(() => {});
    throw error;
  } finally {
    clearTimeout(timer);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
