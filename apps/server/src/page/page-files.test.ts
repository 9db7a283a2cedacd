// The page's files: what is served, with which headers, and that they need nothing but this server.
import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { CONTENT_SECURITY_POLICY, pageFiles } from "./page-files.ts";

const routes = pageFiles();
const names = readdirSync(import.meta.dirname).filter((name) => /\.(js|css|svg|html)$/.test(name));
const textOf = (name: string): string => readFileSync(new URL(name, import.meta.url), "utf8");
const get = (path: string, headers: Record<string, string> = {}): Promise<Response> =>
  Promise.resolve(routes.request(path, { headers }));

test("every file is served as it is, with the policy that keeps all else out, and no other file is", async () => {
  expect(names.length).toBeGreaterThan(10);
  for (const name of names) {
    const response = await get(name === "index.html" ? "/" : `/page/${name}`);
    expect([name, response.status]).toEqual([name, 200]);
    expect(await response.text()).toBe(textOf(name));
    expect(response.headers.get("content-security-policy")).toBe(CONTENT_SECURITY_POLICY);
    expect(response.headers.get("x-content-type-options")).toBe("nosniff");
    const type = { js: "text/javascript", css: "text/css", svg: "image/svg+xml", html: "text/html" };
    const ending = name.slice(name.lastIndexOf(".") + 1) as keyof typeof type;
    expect(response.headers.get("content-type")).toBe(`${type[ending]}; charset=utf-8`);
  }
  for (const path of ["/page/page-files.ts", "/page/tsconfig.json", "/page/..%2fapp.ts", "/page/", "/index.html"]) {
    expect([path, (await get(path)).status]).toEqual([path, 404]);
  }
});

test("a file that has not changed is not sent again", async () => {
  const etag = (await get("/page/main.js")).headers.get("etag") ?? "";
  const again = await get("/page/main.js", { "if-none-match": etag });
  expect([again.status, await again.text()]).toEqual([304, ""]);
  expect(again.headers.get("content-security-policy")).toBe(CONTENT_SECURITY_POLICY);
  expect((await get("/page/main.js", { "if-none-match": '"other"' })).status).toBe(200);
});

test("the policy allows nothing inline, nothing from elsewhere, and no markup out of texts", () => {
  expect(CONTENT_SECURITY_POLICY).toStartWith("default-src 'none'; ");
  expect(CONTENT_SECURITY_POLICY).not.toMatch(/unsafe|https?:|data:|blob:|\*/);
  expect(CONTENT_SECURITY_POLICY).toContain("require-trusted-types-for 'script'");
});

test("no file names another server, or makes markup of texts", () => {
  for (const name of names) {
    const text = textOf(name).replaceAll("http://www.w3.org/2000/svg", "");
    expect([name, text.match(/https?:\/\/|\/\/[a-z]+\.[a-z]+|url\(|@import|@font-face/g)]).toEqual([name, null]);
    expect([name, text.match(/innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|DOMParser/g)]).toEqual([
      name,
      null,
    ]);
    expect([name, text.match(/ style="| on[a-z]+="|<style/g)]).toEqual([name, null]);
  }
});

test("scripts import scripts that are served, and every script is used", () => {
  const used = new Set(["main.js"]);
  for (const name of used) {
    for (const [, imported = ""] of textOf(name).matchAll(/from "\.\/([\w-]+\.js)"/g)) used.add(imported);
  }
  expect([...used].sort()).toEqual(names.filter((name) => name.endsWith(".js")).sort());
});

test("every id that a script looks for is in the page, once", () => {
  const html = textOf("index.html");
  const ids = [...html.matchAll(/ id="([\w-]+)"/g)].map(([, id = ""]) => id);
  expect(new Set(ids).size).toBe(ids.length);
  const wanted = names.flatMap((name) => [...textOf(name).matchAll(/find\("([\w-]+)"/g)].map(([, id = ""]) => id));
  expect(wanted.length).toBeGreaterThan(20);
  for (const id of wanted) expect(ids).toContain(id);
});
