// Headless Chromium, driven by puppeteer-core.
import { pathToFileURL } from "node:url";
import { addRunning } from "./run-command.ts";
import { toolFile } from "./tools.ts";

/** What is used of puppeteer-core, which is installed beside the workspace. */
interface Puppeteer {
  launch(options: object): Promise<
    Browser & {
      process(): { readonly pid?: number | undefined } | null;
      close(): Promise<void>;
    }
  >;
}

/** A Chromium that runs. */
export interface Browser {
  newPage(): Promise<Page>;
}

/** A page that is open. */
export interface Page {
  goto(address: string): Promise<unknown>;
  close(): Promise<void>;
  on(event: "console" | "pageerror", listener: (event: { text?(): string; message?: string }) => void): void;
  evaluate(code: string): Promise<unknown>;
  setViewport(size: { readonly width: number; readonly height: number }): Promise<void>;
  emulateMediaFeatures(features: readonly { readonly name: string; readonly value: string }[]): Promise<void>;
  screenshot(options: {
    readonly type: "webp";
    readonly quality: number;
    readonly fullPage: boolean;
  }): Promise<Uint8Array>;
  readonly keyboard: {
    press(key: string): Promise<void>;
    down(key: string): Promise<void>;
    up(key: string): Promise<void>;
    type(text: string): Promise<void>;
  };
}

const CONTAINED = ["--no-sandbox", "--disable-dev-shm-usage"];
/** WebGPU on software Vulkan, which Chromium brings. */
const GPU_FLAGS = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];
const DEADLINE_MS = 120_000;

/**
 * Starts a Chromium, and ends it when `use` is done.
 *
 * @param chromium path of Chromium
 * @param flags beside those that Chromium needs in a container
 */
export async function withBrowser<T>(
  chromium: string,
  flags: readonly string[],
  use: (browser: Browser) => Promise<T>,
): Promise<T> {
  const module: { readonly default: Puppeteer } = await import(
    pathToFileURL(toolFile("puppeteer-core/lib/puppeteer/puppeteer-core.js")).href
  );
  const args = [...CONTAINED, ...flags];
  const options = { executablePath: chromium, headless: true, args, timeout: DEADLINE_MS };
  const browser = await module.default.launch({ ...options, protocolTimeout: DEADLINE_MS });
  const stop = addRunning(browser.process()?.pid);
  try {
    return await use(browser);
  } finally {
    await Promise.race([browser.close(), Bun.sleep(5000)]);
    stop();
  }
}

/**
 * Opens a page in a Chromium of its own, and closes it when `use` is done.
 *
 * @param chromium path of Chromium
 * @throws Error with what the page has said, when it is not isolated or `use` fails
 */
export async function openPage<T>(chromium: string, address: string, use: (page: Page) => Promise<T>): Promise<T> {
  return await withBrowser(chromium, GPU_FLAGS, async (browser) => {
    const said: string[] = [];
    try {
      const page = await browser.newPage();
      page.on("console", (event) => said.push(event.text?.() ?? ""));
      page.on("pageerror", (event) => said.push(String(event.message)));
      await page.goto(address);
      if (!(await page.evaluate("crossOriginIsolated"))) throw new Error("the page is not isolated");
      return await use(page);
    } catch (error) {
      throw new Error(`${error instanceof Error ? error.message : String(error)}\nThe page said:\n${said.join("\n")}`);
    }
  });
}
