// A browser before a web framework behind function URLs. `test_browser.py` makes the functions, and says where they are.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { chromium } from "playwright-core";

const { STREAMING: streaming, BUFFERED: buffered, FOREIGN: foreign, CHROMIUM: executablePath } = process.env;
let browser;

before(async () => {
  browser = await chromium.launch({ executablePath, args: ["--no-proxy-server"] });
});

after(async () => {
  await browser?.close();
});

const open = async (address) => {
  const page = await (await browser.newContext()).newPage();
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  await page.goto(address);
  return { page, problems };
};

for (const [mode, url] of Object.entries({ streaming, buffered })) {
  test(`a page, its script, its form, its image and its cookies, ${mode}`, async () => {
    const { page, problems } = await open(url);
    assert.equal(await page.title(), "Notes");
    await page.waitForSelector("li");
    assert.deepEqual(await page.locator("li").allTextContents(), ["first nöte"]);
    const size = await page.evaluate(async () => {
      const image = Object.assign(new Image(), { src: "/pixel.gif" });
      await image.decode();
      return [image.naturalWidth, image.naturalHeight];
    });
    assert.deepEqual(size, [1, 1]);
    assert.equal(await page.evaluate(async () => (await fetch("/nowhere")).status), 404);
    await page.fill("[name=text]", "zweite & last? ✓");
    await page.click("button");
    await page.waitForURL(/done$/);
    assert.equal(await page.locator("p").textContent(), "zweite & last? ✓");
    await page.reload();
    const cookies = await page.context().cookies();
    const cookie = (name) => cookies.find((cookie) => cookie.name === name);
    assert.deepEqual([cookie("seen").value, cookie("seen").httpOnly, cookie("added").httpOnly], ["2", false, true]);
    assert.deepEqual(problems, []);
  });
}

test("a stream is seen piece by piece while it is written", async () => {
  const { page } = await open(streaming);
  const seen = await page.evaluate(async () => {
    const reader = (await fetch("/stream")).body.getReader();
    const seen = [];
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return seen;
      seen.push(new TextDecoder().decode(value));
      // The function goes on when it hears of it.
      await fetch(`/saw/${seen.at(-1)}`, { method: "POST" });
    }
  });
  assert.deepEqual(seen, ["a", "b", "c"]);
});

test("events of the server are heard as they are sent", async () => {
  const { page } = await open(streaming);
  const heard = await page.evaluate(
    () =>
      new Promise((resolve) => {
        const heard = [];
        const source = new EventSource("/events");
        source.onmessage = async ({ data }) => {
          heard.push(data);
          await fetch(`/saw/${data}`, { method: "POST" });
        };
        // As the function ends the stream.
        source.onerror = () => resolve((source.close(), heard));
      }),
  );
  assert.deepEqual(heard, ["d", "e", "f"]);
});

test("a page of another origin is let by the rules of CORS, and by nothing else", async () => {
  const { page } = await open(foreign);
  const ask = (address, options) =>
    page.evaluate(
      async ([address, options]) => {
        try {
          const answer = await fetch(address, options);
          return [answer.status, await answer.text(), answer.headers.get("x-told"), answer.headers.get("x-hidden")];
        } catch (error) {
          return error.message;
        }
      },
      [address, options],
    );
  const put = { method: "PUT", headers: { "content-type": "application/json", "x-mine": "1" }, body: "[1]" };
  // Asked for before; of the answer's headers only the exposed one is shown.
  const answer = (text) => [200, text, "yes", null];
  assert.deepEqual(await ask(`${buffered}echo`, { ...put, credentials: "include" }), answer("PUT [1] 1"));
  assert.deepEqual(await ask(`${buffered}echo`, { method: "GET" }), answer("GET  "));
  for (const refused of [{ ...put, method: "DELETE" }, { ...put, headers: { "x-other": "1" } }]) {
    assert.equal(await ask(`${buffered}echo`, refused), "Failed to fetch");
  }
  // Where there are no rules, the function would have to let it.
  assert.equal(await ask(`${streaming}echo`, { method: "GET" }), "Failed to fetch");
});

test("many requests at once", async () => {
  const { page } = await open(buffered);
  const answers = await page.evaluate(() =>
    Promise.all(
      Array.from({ length: 30 }, async (_, i) => (await fetch("/echo", { method: "POST", body: `n${i}` })).text()),
    ),
  );
  assert.deepEqual(answers, Array.from({ length: 30 }, (_, i) => `POST n${i} `));
});
