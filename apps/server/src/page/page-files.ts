import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { Hono } from "hono";

/** Files of the page that its HTML and its scripts load. Nothing else is served. */
const LOADED: readonly string[] = [
  "icon.svg",
  "page.css",
  "access.js",
  "elements.js",
  "event-stream.js",
  "flight-view.js",
  "live-connection.js",
  "main.js",
  "owners-view.js",
  "rank-marks.js",
  "scroll-frames.js",
  "server-links.js",
  "shares-view.js",
  "state-view.js",
  "status-view.js",
  "step-choice.js",
  "texts-view.js",
  "times-view.js",
  "token-owners.js",
  "try-view.js",
];

/** Media type of a file, by the end of its name. */
function typeOf(file: string): string {
  if (file.endsWith(".js")) return "text/javascript";
  return file.endsWith(".css") ? "text/css" : "image/svg+xml";
}

/** The page may load its own files and talk to this server. Nothing else, and no script that stands in a text. */
export const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join("; ");

/** The files of the page, read once. They tell nothing of the model or of its texts. */
export function pageFiles(): Hono {
  const routes = new Hono();
  const files = [
    ["/", "index.html", "text/html"],
    ...LOADED.map((file) => [`/page/${file}`, file, typeOf(file)]),
  ] as const;
  for (const [path, file, type] of files) {
    const bytes = readFileSync(new URL(file, import.meta.url));
    const etag = `"${createHash("sha256").update(bytes).digest("base64url")}"`;
    const headers = {
      etag,
      "cache-control": "no-cache",
      "content-security-policy": CONTENT_SECURITY_POLICY,
      "cross-origin-opener-policy": "same-origin",
      "cross-origin-resource-policy": "same-origin",
      "referrer-policy": "no-referrer",
      "x-content-type-options": "nosniff",
    };
    routes.get(path, (context) =>
      context.req.header("if-none-match") === etag
        ? new Response(null, { status: 304, headers })
        : new Response(bytes, { headers: { ...headers, "content-type": `${type}; charset=utf-8` } }),
    );
  }
  return routes;
}
