// The server's page in Chromium, over an engine that tells a story: what it shows, and how it is used.
import { fileURLToPath } from "node:url";
import { startServer } from "../../apps/server/test/server-process.ts";
import { type Browser, withBrowser } from "../consumers/chromium.ts";
import type { Check } from "../consumers/checks.ts";
import { checkPictures } from "./pictures.ts";
import { type ShownPage, same, withPage } from "./shown-page.ts";
import { type StoryOptions, type StoryServer, startStoryServer } from "./story-server.ts";

const SERVE = fileURLToPath(new URL("../../apps/server/src/main.ts", import.meta.url));

type Use = (shown: ShownPage, server: StoryServer, browser: Browser) => Promise<unknown>;

/** @param chromium path of Chromium, which may have to be installed */
export function servePageChecks(chromium: Promise<string>): Check[] {
  const check = (name: string, use: Use, options: StoryOptions = {}): Check => ({
    name: `the server's page: ${name}`,
    run: async () => {
      await using server = await startStoryServer(options);
      return await withBrowser(await chromium, [], (browser) =>
        withPage(browser, server.address, (shown) => use(shown, server, browser)),
      );
    },
  });
  return [
    check("tokens with the ranks that hold them, shares, times and KV blocks, live", showsRanks),
    check("the same, of a server in Deno", showsRanks, { runtime: "deno" }),
    check("texts of requests are texts, whatever they say", keepsTexts),
    check("a text box that streams, and stops, by the keyboard alone", streamsByKeyboard),
    check("the same, of a server in Deno", streamsByKeyboard, { runtime: "deno" }),
    check("every control is reached and left by the keyboard, and shows that it has the focus", showsFocus),
    check("light and dark, 360 to 1600 pixels wide, still where motion is not wanted", fits),
    check("the flight record of every rank while no step ends, and each state", showsFlight),
    check("others' texts are not told where only one's own are", hidesTexts, { texts: "own" }),
    check("asks for the token that the server wants", asksForToken, { token: "secret" }),
    check("pauses, does not keep the server from ending, and says that it is away", pauses),
    check("the same, of a server in Deno", pauses, { runtime: "deno" }),
    {
      name: "the server's page: of `bun run serve`, over the demo's model on four ranks",
      run: async () => {
        await using server = await startServer("bun", SERVE, ["--port", "0", "--world", "4", "--backend", "wasm"]);
        await withBrowser(await chromium, [], (browser) => withPage(browser, `${server.url}/`, showsModel));
        server.kill("SIGTERM");
        same("exit code", await server.exited, 0);
      },
    },
    check("the pictures in docs/ are of this page", (_, server, browser) => checkPictures(browser, server)),
  ];
}

const ROWS = (id: string): string => `document.querySelectorAll("#${id} tbody tr").length`;
const NUMBERS = (selector: string): string =>
  `[...document.querySelectorAll("${selector}")].map((cell) => Number.parseFloat(cell.textContent))`;

async function showsRanks(shown: ShownPage, server: StoryServer): Promise<void> {
  await shown.untilText("state", /^Ready$/);
  await shown.untilText("about", /^story, 4 ranks, up to 2048 tokens of context$/);
  const answers = [server.ask("x".repeat(40), 230), server.ask("y".repeat(77), 230)];
  await shown.until("four ranks", `document.querySelectorAll("#ranks .mark").length === 4`);
  await shown.untilText("ranks", /^0 holds its 8 of every 32 tokens, keeps heads 0 to 1/);
  await shown.until("two texts in the batch", `document.getElementById("running").textContent === "2"`);
  await shown.until("a rate", `Number(document.getElementById("token-rate").textContent) > 0`);
  await shown.until("tokens that are held", `document.querySelectorAll(".token[data-held]").length > 40`);
  // Runs of eight, from where the prompt ends: the mark of a rank stands where its run begins, and its colour is there.
  const held = String(
    await shown.read(`[...document.querySelectorAll("#texts li")].map((text) =>
    [...text.querySelectorAll(".token")].slice(0, 20).map((token) => token.dataset.held).join("")).sort().join()`),
  );
  same("ranks of the first tokens after prompts of 40 and 77", held, "11111111222222223333,11122222222333333330");
  same(
    "colours of a token",
    await shown.read(`getComputedStyle(document.querySelector(".token[data-held='2']"))
    .borderBottomColor === getComputedStyle(document.querySelector(".rank-2.mark")).backgroundColor`),
    true,
  );
  same("lanes", await shown.read(ROWS("owners")), 4);
  const [, length] = /^(\d+) tokens/.exec(await shown.text("owners-about")) ?? [];
  const holds = (await shown.read(NUMBERS("#owners td.number"))) as number[];
  if (length === undefined || Math.abs(holds.reduce((sum, one) => sum + one, 0) - Number(length)) > 32) {
    throw new Error(`expected ${length} tokens to be held by four ranks, but found ${holds}`);
  }
  same("heads", await shown.read(ROWS("shares")), 8);
  const shares = `[...document.querySelectorAll("#shares tbody tr")].map((row) => [...row.querySelectorAll("td")]
    .reduce((sum, cell) => sum + Number.parseFloat(cell.textContent), 0))`;
  for (const sum of (await shown.read(shares)) as number[]) {
    if (!(Math.abs(sum - 100) < 0.5)) throw new Error(`expected a head's shares to sum to 100 %, but found ${sum}`);
  }
  await shown.tabTo("layer");
  await shown.page.keyboard.press("ArrowRight");
  await shown.page.keyboard.press("ArrowRight");
  same("the layer", await shown.text("layer-name"), "2 of 6");
  await shown.untilText("times-about", /^Step \d+: decode of \d texts?, combine one-shot/);
  same(
    "times",
    ((await shown.read(NUMBERS("#times b"))) as number[]).map((ms) => ms > 0),
    [true, true, true, true],
  );
  const blocks = (await shown.read(NUMBERS(".now .legend b"))) as number[];
  same(
    "all blocks",
    blocks.reduce((sum, count) => sum + count, 0),
    96,
  );
  await Promise.all(answers);
  await shown.untilText("running", /^0$/);
  await shown.untilText("texts", /ended: length/);
}

/** The demo's model has 2 KV heads: two groups of two ranks each, whose tokens go to one and the other in turn. */
async function showsModel(shown: ShownPage): Promise<void> {
  await shown.untilText("state", /^Ready$/);
  await shown.untilText("about", /^demo, 4 ranks, /);
  await shown.tabTo("prompt");
  await shown.page.keyboard.type("Psa23:1");
  await shown.tabTo("max-tokens");
  await shown.pressWithControl("a");
  await shown.page.keyboard.type("200");
  await shown.page.keyboard.press("Enter");
  await shown.untilText("answer-text", /^Psa23:1 The LORD is my shepherd; I shall not want\./);
  await shown.untilText("try-status", /^Done \(length\): \d+ tokens asked, 200 generated$/);
  await shown.untilText("texts", /The LORD is my shepherd/);
  await shown.until("the holders of tokens", `document.querySelectorAll(".token[data-held]").length === 200`);
  const holders = `[...new Set([...document.querySelectorAll("#texts .token")].map(({ dataset }) => dataset.held))].sort()`;
  same("holders of tokens", await shown.read(holders), ["0,2", "1,3"]);
  same("heads", await shown.read(ROWS("shares")), 8);
  const shares = (await shown.read(NUMBERS("#shares td span"))) as (number | null)[];
  const told = shares.filter((share) => share !== null);
  same("shares that are told: those of two ranks for each head", told.length, 16);
  const sum = told.reduce((total, share) => total + share, 0);
  if (Math.abs(sum - 800) > 2) throw new Error(`expected the shares of 8 heads to sum to 800 %, but found ${sum}`);
  const times = (await shown.read(NUMBERS("#times b"))) as number[];
  same(
    "times",
    times.map((ms) => ms > 0),
    [true, true, true, true],
  );
}

async function keepsTexts(shown: ShownPage, server: StoryServer): Promise<void> {
  await shown.untilText("state", /^Ready$/);
  await server.ask("<".padEnd(40), 40);
  // The page's own marks of ranks stand between.
  const runs = ["1", "2", "3", "0", "1"].map((rank) => rank + "<b>".repeat(8)).join("");
  await shown.untilText("texts", new RegExp(`^req-.*40 tokens, ended: length${runs}$`));
  same("elements that texts made", await shown.read(`document.querySelectorAll("#texts b").length`), 0);
  same(
    "scripts out of texts",
    await shown.read(`(() => {
    try { document.body.innerHTML = "<i>"; return "made" } catch { return "refused" }
  })()`),
    "refused",
  );
  shown.expectConsole(/TrustedHTML/);
}

async function streamsByKeyboard(shown: ShownPage): Promise<void> {
  await shown.untilText("state", /^Ready$/);
  await shown.tabTo("prompt");
  await shown.page.keyboard.type("Once");
  await shown.pressWithControl("Enter");
  await shown.untilText("answer-text", /^OnceIn the beginning/);
  same("while it streams", await shown.text("try-status"), "Generating");
  await shown.untilText("try-status", /^Done \(length\): 4 tokens asked, 64 generated$/);
  await shown.tabTo("max-tokens");
  await shown.pressWithControl("a");
  await shown.page.keyboard.type("2000");
  await shown.page.keyboard.press("Enter");
  await shown.untilText("answer-text", /God created/);
  await shown.untilText("running", /^1$/);
  await shown.tabTo("stop");
  await shown.page.keyboard.press("Enter");
  await shown.untilText("try-status", /^Stopped$/);
  same("the focus after Stop", await shown.focused(), "go");
  await shown.untilText("running", /^0$/);
  await shown.untilText("texts", /ended: cancelled/);
}

async function showsFocus(shown: ShownPage, server: StoryServer): Promise<void> {
  await shown.untilText("state", /^Ready$/);
  await server.ask("x", 30);
  await shown.until("an explained step", `!document.getElementById("layer").disabled`);
  const seen: string[] = [];
  for (let presses = 0; presses < 40; presses++) {
    await shown.page.keyboard.press("Tab");
    const id = await shown.focused();
    if (id === "BODY" || (id === seen[0] && seen.length > 1)) break;
    seen.push(id);
    const outline = `((style) => style.outlineStyle !== "none" && Number.parseFloat(style.outlineWidth) >= 2)(
      getComputedStyle(document.activeElement))`;
    same(`an outline around ${id}`, await shown.read(outline), true);
    const inView = `((box) => box.bottom > 0 && box.top < innerHeight && box.left >= 0)(
      document.activeElement.getBoundingClientRect())`;
    same(`${id} in view`, await shown.read(inView), true);
  }
  const wanted = ["#main", "pause", "prompt", "max-tokens", "temperature", "go", "text", "layer"];
  same(
    "controls in the order of the page",
    seen.filter((id) => wanted.includes(id)),
    wanted,
  );
  same("links", seen.slice(-3), ["/metrics", "/debug/flight", "/health"]);
  const unnamed = `[...document.querySelectorAll("button, input:not([hidden]), select, textarea")].filter((control) =>
    !control.textContent.trim() && !control.labels?.length && !control.ariaLabel).map(({ id }) => id)`;
  same("controls without a name", await shown.read(unnamed), []);
  await shown.tabTo("#main");
  await shown.page.keyboard.press("Enter");
  same("the focus after the link past the header", await shown.focused(), "main");
}

async function fits(shown: ShownPage, server: StoryServer): Promise<void> {
  await shown.untilText("state", /^Ready$/);
  void server.ask("x".repeat(300), 1700);
  await shown.until("an explained step", `!document.getElementById("layer").disabled`);
  const backgrounds: unknown[] = [];
  for (const value of ["light", "dark"]) {
    await shown.page.emulateMediaFeatures([
      { name: "prefers-color-scheme", value },
      { name: "prefers-reduced-motion", value: "reduce" },
    ]);
    for (const width of [360, 768, 1040, 1600]) {
      await shown.page.setViewport({ width, height: 800 });
      same(`width at ${width} pixels`, await shown.read("document.documentElement.scrollWidth"), width);
    }
    backgrounds.push(await shown.read(`getComputedStyle(document.body).backgroundColor`));
    // What moves already may end as it began.
    await shown.until("nothing that moves", "document.getAnimations().length === 0");
    for (let look = 0; look < 20; look++) {
      same("what moves", await shown.read("document.getAnimations().length"), 0);
      await Bun.sleep(25);
    }
  }
  same("backgrounds in light and dark", backgrounds, ["rgb(244, 244, 241)", "rgb(16, 18, 21)"]);
  server.tell("hang");
  await shown.page.setViewport({ width: 360, height: 800 });
  await shown.until("the flight record", `!document.getElementById("flight").hidden`);
  same("width with a flight record", await shown.read("document.documentElement.scrollWidth"), 360);
  await shown.page.emulateMediaFeatures([{ name: "prefers-reduced-motion", value: "no-preference" }]);
  server.tell("go");
  await shown.until("something that moves", "document.getAnimations().length > 0");
}

async function showsFlight(shown: ShownPage, server: StoryServer): Promise<void> {
  await shown.untilText("state", /^Ready$/);
  server.tell("hang");
  const answer = server.ask("x", 5);
  await shown.untilText("state", /^Stuck: /);
  await shown.untilText("flight-about", /^No step has ended for \d+ s, though .* Others wait for rank 2\.$/);
  same("ranks", await shown.read(`document.querySelectorAll("#flight tbody tr").length`), 4);
  same(
    "those behind",
    await shown.read(`[...document.querySelectorAll("#flight .behind")].map((mark) =>
    mark.closest("tr").querySelector("th").textContent)`),
    ["2"],
  );
  await shown.untilText("flight-groups", /42: allGather f32 \[4, 8, 64\].*waiting for \d+ ms/s);
  server.tell("go");
  await shown.untilText("state", /^Ready$/);
  await shown.until("no flight record", `document.getElementById("flight").hidden`);
  await answer;
  server.tell("restarting");
  await shown.untilText("state", /^Restarting: /);
  server.tell("ready");
  await shown.untilText("state", /^Ready$/);
  same("where states are read aloud", await shown.read(`document.getElementById("state").ariaLive`), "polite");
}

async function hidesTexts(shown: ShownPage, server: StoryServer): Promise<void> {
  await shown.untilText("state", /^Ready$/);
  await server.ask("x", 40);
  await shown.untilText("texts", /40 tokens, ended: length/);
  same("a word of the story", /beginning|God/.test(await shown.text("texts")), false);
  await shown.untilText("texts-about", /does not tell what others' tokens say/);
  await shown.tabTo("prompt");
  await shown.page.keyboard.type("Once");
  await shown.pressWithControl("Enter");
  await shown.untilText("answer-text", /^OnceIn the beginning/);
}

async function asksForToken(shown: ShownPage, server: StoryServer): Promise<void> {
  shown.expectConsole(/401/);
  await shown.untilText("state", /wants its token/);
  same("the focus", await shown.focused(), "token");
  await shown.page.keyboard.type("wrong");
  await shown.page.keyboard.press("Enter");
  await shown.untilText("access-problem", /refused this token/);
  await shown.tabTo("token");
  await shown.page.keyboard.type("secret");
  await shown.page.keyboard.press("Enter");
  await shown.untilText("state", /^Ready$/);
  await shown.until("no question", `document.getElementById("access").hidden`);
  await shown.tabTo("prompt");
  await shown.page.keyboard.type("Once");
  await shown.pressWithControl("Enter");
  await shown.untilText("try-status", /^Done/);
  await shown.page.goto(server.address);
  await shown.untilText("state", /^Ready$/);
  await followsLinks(shown, server);
}

/** Links that a browser alone would follow without the token. */
async function followsLinks(shown: ShownPage, server: StoryServer): Promise<void> {
  for (const [path, told] of [
    ["/metrics", "# TYPE"],
    ["/debug/flight", '"groups"'],
  ] as const) {
    await shown.tabTo(path);
    await shown.page.keyboard.press("Enter");
    await shown.until(`what the link ${path} leads to`, `document.body.textContent.includes(${JSON.stringify(told)})`);
    await shown.page.goto(server.address);
    await shown.untilText("state", /^Ready$/);
  }
}

async function pauses(shown: ShownPage, server: StoryServer): Promise<void> {
  await shown.untilText("state", /^Ready$/);
  await shown.tabTo("pause");
  await shown.page.keyboard.press("Enter");
  await shown.untilText("state", /^Paused$/);
  await server.ask("x", 10);
  same("texts while it is paused", await shown.text("texts"), "");
  await shown.page.keyboard.press("Enter");
  await shown.untilText("state", /^Ready$/);
  await server.ask("x", 10);
  await shown.untilText("texts", /10 tokens/);
  shown.expectConsole(/ERR_|Failed to load/);
  same("exit code of the server, told to end while a page watches", await server.end(), 0);
  await shown.untilText("state", /^No connection: trying again$/);
}
