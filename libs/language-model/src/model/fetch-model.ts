import { ArgumentError, checkSharedMemory, describe, sharedBytes } from "@lockstep/tensor";
import { ModelError } from "../errors.ts";
import { isJsonObject, parseJsonObject } from "./json-file.ts";
import type { ModelFiles } from "./model-files.ts";

const NAME = "fetchModel";
const OPTIONS: readonly string[] = ["onBytes", "stallMs", "signal"];
/** Files that a model may have beside those that it must have. */
const OPTIONAL_FILES = ["tokenizer_config.json", "generation_config.json", "chat_template.jinja", "chat_template.json"];
const DEFAULT_STALL_MS = 60_000;

/** How a model is fetched. */
export interface FetchModelOptions {
  /** Called as bytes of weights come: how many so far, and of how many; undefined as long as a server does not tell. */
  readonly onBytes?: ((bytes: number, total: number | undefined) => void) | undefined;
  /** Gives up when nothing has come for so long. Default 60 000 ms. */
  readonly stallMs?: number | undefined;
  /** Gives up when it fires, with its reason. */
  readonly signal?: CallerSignal | undefined;
}

/** An `AbortSignal`; where TypeScript is not told of that, what is used of one. */
export type CallerSignal = typeof globalThis extends { AbortSignal: { prototype: infer Signal } }
  ? Signal
  : { readonly aborted: boolean; readonly reason: unknown };

/**
 * Fetches the files of a model folder in Hugging Face format over HTTP, for {@link openModel}: in pages, and wherever
 * there is no folder. Weights come into memory that ranks share, without another copy.
 * @param base URL of the folder: what comes before `/config.json`. What follows a `?`, as of signed URLs, is kept
 * @throws ModelError when a file is missing, or stops coming; ArgumentError; MemoryNotShared in a page without
 *   cross-origin isolation; the signal's reason
 */
export async function fetchModel(
  base: string | { readonly href: string },
  options: FetchModelOptions = {},
): Promise<ModelFiles> {
  const folder = folderUrl(base);
  checkOptions(options);
  checkSharedMemory(NAME);
  const fetched = new Map<string, Uint8Array>();
  const take = async (name: string, isNeeded: boolean): Promise<Uint8Array | undefined> => {
    const bytes = await fetchFile(folder, name, options, undefined);
    if (bytes === undefined && isNeeded) throw new ModelError(shown(fileUrl(folder, name)), "a file", "none");
    if (bytes !== undefined) fetched.set(name, bytes);
    return bytes;
  };
  await take("config.json", true);
  await take("tokenizer.json", true);
  for (const name of OPTIONAL_FILES) await take(name, false);
  const progress = { bytes: 0, total: 0, isKnown: true };
  const single = await fetchFile(folder, "model.safetensors", options, progress);
  if (single !== undefined) fetched.set("model.safetensors", single);
  else {
    const index = await take("model.safetensors.index.json", false);
    if (index === undefined) throw new ModelError(shown(fileUrl(folder, "model.safetensors")), "a file", "none");
    for (const name of weightFiles(shown(fileUrl(folder, "model.safetensors.index.json")), index)) {
      const bytes = await fetchFile(folder, name, options, progress);
      if (bytes === undefined) throw new ModelError(shown(fileUrl(folder, name)), "a file", "none");
      fetched.set(name, bytes);
    }
  }
  return Object.fromEntries(fetched);
}

/** URL of the folder. */
function folderUrl(base: string | { readonly href: string }): URL {
  const text = typeof base === "string" ? base : base?.href;
  const page: unknown = Reflect.get(globalThis, "location");
  const within = typeof page === "object" && page !== null ? String(Reflect.get(page, "href")) : undefined;
  try {
    const url = typeof text === "string" ? new URL(text, within) : undefined;
    if (url?.protocol === "https:" || url?.protocol === "http:") return url;
  } catch {
    // Said below.
  }
  throw new ArgumentError(NAME, "base", "the http(s) URL of a model folder", describe(text));
}

/** URL of a file of the folder, with the folder's search: signed URLs have their signature there. */
function fileUrl(folder: URL, name: string): URL {
  const url = new URL(folder);
  url.pathname = `${folder.pathname.replace(/\/$/, "")}/${encodeURIComponent(name)}`;
  url.hash = "";
  return url;
}

/** A URL as errors name it: without its search, which may be secret. */
function shown(url: URL): string {
  return `${url.origin}${url.pathname}`;
}

function checkOptions(options: FetchModelOptions): void {
  if (typeof options !== "object" || options === null) {
    throw new ArgumentError(NAME, "options", "an object", describe(options));
  }
  const unknown = Object.keys(options).find((key) => !OPTIONS.includes(key));
  if (unknown !== undefined) {
    throw new ArgumentError(NAME, "options", `an object with ${OPTIONS.join(", ")}`, `one with ${describe(unknown)}`);
  }
  const { stallMs, onBytes } = options;
  if (stallMs !== undefined && !(Number.isFinite(stallMs) && stallMs > 0)) {
    throw new ArgumentError(NAME, "stallMs", "milliseconds, more than 0", describe(stallMs));
  }
  if (onBytes !== undefined && typeof onBytes !== "function") {
    throw new ArgumentError(NAME, "onBytes", "a function", describe(onBytes));
  }
}

/** Files that an index of weights names, each once. */
function weightFiles(path: string, index: Uint8Array): ReadonlySet<string> {
  const map = parseJsonObject(path, new TextDecoder().decode(index)).weight_map;
  const names = isJsonObject(map) ? Object.values(map) : [];
  const files = new Set(names.filter((name): name is string => typeof name === "string" && /^[^/\\\0]+$/.test(name)));
  if (files.size === 0) throw new ModelError(path, "a weight_map that names files", "none");
  return files;
}

/** Weights that came so far, over all files. */
interface Progress {
  bytes: number;
  /** Of the files whose size is known. */
  total: number;
  /** Whether that are all that were begun. */
  isKnown: boolean;
}

/**
 * The bytes of a file; undefined where there is none. Weights (those with `progress`) come into shared memory.
 * @throws ModelError when it stops coming
 */
async function fetchFile(
  folder: URL,
  name: string,
  { onBytes, stallMs = DEFAULT_STALL_MS, signal }: FetchModelOptions,
  progress: Progress | undefined,
): Promise<Uint8Array | undefined> {
  const address = fileUrl(folder, name);
  const url = shown(address);
  const gone = new AbortController();
  const stalled = new ModelError(url, "bytes", `none for ${stallMs} ms`);
  let timer = setTimeout(() => gone.abort(stalled), stallMs);
  const signals = signal === undefined ? [gone.signal] : [gone.signal, signal as AbortSignal];
  try {
    const response = await fetch(address, { signal: AbortSignal.any(signals) });
    // A server of single-page apps answers its page for what is not there.
    const isPage = (response.headers.get("content-type") ?? "").startsWith("text/html");
    if (response.status === 404 || isPage) {
      await response.body?.cancel();
      return undefined;
    }
    if (!response.ok || response.body === null) {
      throw new ModelError(url, "a file", `an answer with status ${response.status}`);
    }
    const isEncoded = (response.headers.get("content-encoding") ?? "identity") !== "identity";
    const length = isEncoded ? Number.NaN : Number(response.headers.get("content-length") ?? Number.NaN);
    const isSized = Number.isSafeInteger(length) && length > 0;
    if (progress !== undefined) {
      progress.isKnown &&= isSized;
      progress.total += isSized ? length : 0;
    }
    const chunks = new Chunks(isSized ? length : undefined, progress !== undefined);
    for await (const chunk of response.body) {
      clearTimeout(timer);
      timer = setTimeout(() => gone.abort(stalled), stallMs);
      chunks.add(chunk);
      if (progress === undefined) continue;
      progress.bytes += chunk.length;
      onBytes?.(progress.bytes, progress.isKnown ? progress.total : undefined);
    }
    return chunks.whole(url);
  } catch (error) {
    if (gone.signal.aborted) throw stalled;
    if (signal?.aborted === true) throw signal.reason;
    if (error instanceof ModelError || !(error instanceof TypeError)) throw error;
    throw new ModelError(url, "a file", `an answer that did not come (${error.message})`);
  } finally {
    clearTimeout(timer);
  }
}

/** Bytes that come in chunks, put together: in place where their number is known. */
class Chunks {
  readonly #target: Uint8Array | undefined;
  readonly #isShared: boolean;
  readonly #rest: Uint8Array[] = [];
  #bytes = 0;

  constructor(length: number | undefined, isShared: boolean) {
    this.#isShared = isShared;
    this.#target = length === undefined ? undefined : this.#room(length);
  }

  add(chunk: Uint8Array): void {
    if (this.#target === undefined || this.#bytes + chunk.length > this.#target.length) this.#rest.push(chunk);
    else this.#target.set(chunk, this.#bytes);
    this.#bytes += chunk.length;
  }

  /** All of them. @throws ModelError when there are more or fewer than were announced */
  whole(url: string): Uint8Array {
    if (this.#target !== undefined) {
      if (this.#bytes === this.#target.length) return this.#target;
      throw new ModelError(url, `${this.#target.length} bytes`, String(this.#bytes));
    }
    const whole = this.#room(this.#bytes);
    let at = 0;
    for (const chunk of this.#rest) {
      whole.set(chunk, at);
      at += chunk.length;
    }
    return whole;
  }

  #room(length: number): Uint8Array {
    return this.#isShared ? sharedBytes(NAME, length) : new Uint8Array(length);
  }
}
