// Headless Chromium with WebGPU on software Vulkan, driven by puppeteer-core.
import { pathToFileURL } from "node:url";
import { addRunning } from "./run-command.ts";
import { toolFile } from "./tools.ts";

/** What is used of puppeteer-core, which is installed beside the workspace. */
interface Puppeteer {
  launch(options: object): Promise<{
    newPage(): Promise<Page>;
    process(): { readonly pid?: number | undefined } | null;
    close(): Promise<void>;
  }>;
}

/** A page that is open. */
export interface Page {
  goto(address: string): Promise<unknown>;
  on(event: "console" | "pageerror", listener: (event: { text?(): string; message?: string }) => void): void;
  evaluate(code: string): Promise<unknown>;
}

/** WebGPU on software Vulkan, which Chromium brings. */
const FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];
const DEADLINE_MS = 120_000;

/**
 * Opens a page in a Chromium of its own, and closes it when `use` is done.
 *
 * @param chromium path of Chromium
 * @throws Error with what the page has said, when it is not isolated or `use` fails
 */
export async function openPage<T>(chromium: string, address: string, use: (page: Page) => Promise<T>): Promise<T> {
  const module: { readonly default: Puppeteer } = await import(
    pathToFileURL(toolFile("puppeteer-core/lib/puppeteer/puppeteer-core.js")).href
  );
  const options = { executablePath: chromium, headless: true, args: FLAGS, timeout: DEADLINE_MS };
  const browser = await module.default.launch({ ...options, protocolTimeout: DEADLINE_MS });
  const stop = addRunning(browser.process()?.pid);
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
  } finally {
    await Promise.race([browser.close(), Bun.sleep(5000)]);
    stop();
  }
}
