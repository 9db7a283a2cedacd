// A page in Chromium, and what it shows.
import type { Browser, Page } from "../consumers/chromium.ts";

/** For a machine that does much else. */
const DEADLINE_MS = 60_000;

/** A page, and what its console said. */
export class ShownPage {
  readonly page: Page;
  readonly #said: string[] = [];
  /** What the console may say, as what it is about is part of the check. */
  #expected: RegExp | undefined;

  constructor(page: Page) {
    this.page = page;
    page.on("console", (event) => this.#said.push(event.text?.() ?? ""));
    page.on("pageerror", (event) => this.#said.push(`error: ${event.message}`));
  }

  /** From here on the console may say what `pattern` matches. */
  expectConsole(pattern: RegExp): void {
    this.#expected = pattern;
  }

  /** @throws Error when the console said something */
  checkConsole(): void {
    const said = this.#said.filter((line) => !(this.#expected?.test(line) ?? false));
    if (said.length > 0) throw new Error(`expected a silent console, but it said:\n${said.join("\n")}`);
  }

  /** What an expression is, in the page. */
  async read(expression: string): Promise<unknown> {
    return await this.page.evaluate(expression);
  }

  /** Text of an element. */
  async text(id: string): Promise<string> {
    return String(await this.read(`document.getElementById(${JSON.stringify(id)}).textContent`));
  }

  /** Waits until an expression is true in the page. @throws Error with `what` and what the page shows */
  async until(what: string, expression: string): Promise<void> {
    const deadline = performance.now() + DEADLINE_MS;
    const isTrue = async (): Promise<boolean> => {
      try {
        return (await this.read(`Boolean(${expression})`)) === true;
      } catch (error) {
        // The page leads to another one at this moment.
        if (String(error).includes("Execution context was destroyed")) return false;
        throw error;
      }
    };
    while (!(await isTrue())) {
      if (performance.now() > deadline) {
        throw new Error(
          `expected ${what} (${expression}), but the page shows:\n${await this.read("document.body.innerText")}`,
        );
      }
      await Bun.sleep(25);
    }
  }

  /** Waits until an element's text matches. */
  async untilText(id: string, pattern: RegExp): Promise<void> {
    await this.until(`#${id} to match ${pattern}`, `${pattern}.test(document.getElementById("${id}").textContent)`);
  }

  /** Id of the element that has the focus, or what it is. */
  async focused(): Promise<string> {
    const name = "((e) => e.id || (e.tagName === 'A' ? e.getAttribute('href') : e.tagName))(document.activeElement)";
    return String(await this.read(name));
  }

  /** Goes forward by the keyboard until an element has the focus. */
  async tabTo(id: string): Promise<void> {
    for (let presses = 0; presses < 60; presses++) {
      if ((await this.focused()) === id) return;
      await this.page.keyboard.press("Tab");
    }
    throw new Error(`expected the keyboard to reach #${id}, but 60 presses of Tab did not`);
  }

  /** Presses a key while Control is held. */
  async pressWithControl(key: string): Promise<void> {
    await this.page.keyboard.down("Control");
    await this.page.keyboard.press(key);
    await this.page.keyboard.up("Control");
  }
}

/** Opens a page, and closes it when `use` is done. @throws Error when `use` does, or the console said something */
export async function withPage<T>(
  browser: Browser,
  address: string,
  use: (shown: ShownPage) => Promise<T>,
): Promise<T> {
  const page = await browser.newPage();
  try {
    const shown = new ShownPage(page);
    await page.setViewport({ width: 1040, height: 900 });
    await page.goto(address);
    const result = await use(shown);
    shown.checkConsole();
    return result;
  } finally {
    await page.close();
  }
}

/** @throws Error with `what`, unless both are the same */
export function same(what: string, found: unknown, wanted: unknown): void {
  const [one, other] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (one !== other) throw new Error(`${what}: expected ${other}, but found ${one}`);
}
