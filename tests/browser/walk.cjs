// Usage: node walk.cjs URL CHROMIUM TARGET. Walks through a daemon's year as people do, while it measures on.
"use strict";
const fs = require("node:fs");
const { screens, languages, holds, wrong, open, inspect, run } = require("./browser.cjs");

/** Most that a page and all it loads may weigh. */
const BYTES_MAX = 150_000;

run(async (browser, base, target) => {
  let place = "";
  const page = await open(browser, base, () => place, { acceptDownloads: true });
  const step = (name) => { place = name; };
  const heading = (name) => page.getByRole("heading", { level: 1, name }).waitFor();

  step("first page");
  await page.goto(base);
  await page.locator("#live").waitFor({ state: "visible" });
  await heading(/is being interfered with/);
  await inspect(page, place);
  await weigh(page, place);

  step("target");
  await page.getByRole("link", { name: new RegExp(target) }).first().click();
  await heading(target);
  await page.locator(".verdict-panel .verdict", { hasText: "throttled" }).waitFor();
  holds(await page.locator(".verdict-panel .sentence").innerText().then((said) => said.includes("slowed down")), "no sentence");
  for (const picture of ["last good", "last bad"]) {
    const named = await page.locator(`#curves ~ .pair svg[aria-label^="${picture}" i]`).count();
    holds(named === 1, `${place}: ${named} pictures of the ${picture}`);
  }
  await inspect(page, place);

  step("from the verdict to the evidence");
  await page.locator(".verdict-panel").getByRole("link", { name: "evidence" }).click();
  holds(new URL(page.url()).hash.startsWith("#evidence"), `${place}: ${page.url()}`);
  // By its id: a page that has been brought up to date since has no `:target` any more.
  const id = new URL(page.url()).hash.slice(1);
  const evidence = page.locator(`section[id="${id}"], section:has([id="${id}"])`).first();
  await evidence.getByText("throttlescope compare").waitFor();
  step("down to one exchange");
  await evidence.getByRole("link", { name: /^Exchange/ }).last().click();
  await heading(/^Exchange/);
  for (const phase of ["connect", "tls", "processing", "transfer"]) {
    holds(await page.locator("svg text", { hasText: phase }).count() > 0, `${place}: no ${phase}`);
  }
  await inspect(page, place);
  const json = await page.getByRole("link", { name: "As JSON", exact: true }).getAttribute("href");
  const one = await (await page.request.get(`${base}/${json}`)).json();
  holds(one.subject === target && one.exchange.curve.length > 0, `${place}: another exchange`);
  await page.locator("main").getByRole("link", { name: target }).click();
  await heading(target);

  step("export");
  for (const [form, reads] of Object.entries({ ndjson: lines, ooni: lines, csv: table })) {
    const asked = page.getByRole("link", { name: form, exact: true }).click();
    const [download] = await Promise.all([page.waitForEvent("download"), asked]);
    const rows = reads(fs.readFileSync(await download.path(), "utf8"));
    holds(rows > 10, `${place}: ${rows} rows of ${form}`);
    holds(download.suggestedFilename().endsWith(`.${form === "csv" ? "csv" : form}`) || form === "ooni",
      `${place}: ${download.suggestedFilename()}`);
  }

  step("history");
  for (const span of ["Hour", "Week", "Month", "Day"]) {
    await page.getByRole("link", { name: span, exact: true }).click();
    await page.locator(`.spans [aria-current]`, { hasText: span }).waitFor();
    holds(await page.locator("#history ~ .pair svg.chart").count() === 2, `${place}: no charts of the ${span}`);
    await weigh(page, `${place}, ${span}`);
  }
  await page.locator("summary").first().click();
  holds(await page.locator("details[open] tbody tr").count() > 10, `${place}: no numbers behind the chart`);

  step("live");
  const newest = page.locator("#exchanges ~ .scroll tbody tr").first().getByRole("link");
  const before = await newest.getAttribute("href");
  await page.evaluate(() => { window.stays = true; });
  await page.waitForFunction(
    (before) => document.querySelector("#exchanges ~ .scroll tbody a").getAttribute("href") !== before, before);
  holds(await page.evaluate(() => window.stays && document.querySelector("details").open), `${place}: it was loaded anew`);

  step("languages");
  await page.goto(base);
  for (const language of [...languages.slice(1), "en"]) {
    await page.locator(`.languages a[lang="${language}"]`).click();
    await page.locator(`html[lang="${language}"]`).waitFor();
    const direction = await page.evaluate(() => getComputedStyle(document.querySelector("h1")).direction);
    holds(direction === (language === "fa" ? "rtl" : "ltr"), `${place}: ${language} runs ${direction}`);
    const said = await page.locator("h1").innerText();
    holds(language === "en" || !/interfered/.test(said), `${place}: ${language} says ${said}`);
    for (const link of await page.locator("main a, header a.name").evaluateAll((all) => all.map((a) => a.href))) {
      holds(link.includes(`lang=${language}`) || link.includes("/api/"), `${place}: ${link} forgets ${language}`);
    }
  }
  await page.context().close();
  await byKeyboard(browser, base, target);
  await withoutScripts(browser, base, target);
  await paints(browser, base, target);
});

const lines = (text) => text.trim().split("\n").map((line) => JSON.parse(line)).length;
const table = (text) => (text.startsWith("time,") ? text.trim().split("\n").length - 1 : 0);

/** The page and all that it loads, unpacked. */
async function weigh(page, place) {
  const bytes = await page.evaluate(() => ["navigation", "resource"]
    .flatMap((kind) => performance.getEntriesByType(kind))
    .filter((entry) => entry.initiatorType !== "fetch" && !entry.name.endsWith("/events"))
    .reduce((sum, entry) => sum + entry.decodedBodySize, 0));
  holds(bytes > 5_000 && bytes < BYTES_MAX, `${place}: ${bytes} bytes`);
}

/** Says when each page was first painted, by a browser that has nothing of it and by one that has style and script. A
 * machine that does other work paints later: the numbers are said, not held against anything. */
async function paints(browser, base, target) {
  const pages = { overview: "/" };
  for (const span of ["hour", "day", "week", "month"]) pages[span] = `/target?id=${encodeURIComponent(target)}&span=${span}`;
  for (const [name, path] of Object.entries(pages)) {
    const found = { cold: [], warm: [] };
    const served = [];
    for (let load = 0; load < 10; load++) {
      const page = await open(browser, base, () => `paint of ${name}`);
      for (const kind of ["cold", "warm"]) {
        await page.goto(base + path);
        const [paint, response] = await page.evaluate(async () => {
          const entries = () => performance.getEntriesByName("first-contentful-paint");
          while (!entries().length) await new Promise((later) => setTimeout(later, 10));
          return [entries()[0].startTime, performance.getEntriesByType("navigation")[0].responseEnd];
        });
        found[kind].push(paint);
        served.push(response);
      }
      await page.context().close();
    }
    const told = (times) => {
      times.sort((a, b) => a - b);
      return `${Math.round(times[times.length >> 1])} ms (${Math.round(times[0])} to ${Math.round(times.at(-1))})`;
    };
    console.log(`first paint of ${name}: ${told(found.cold)}, again ${told(found.warm)}; page received ${told(served)}`);
  }
}

/** Tab and Enter alone, from the first page to an exchange, on a phone's screen. */
async function byKeyboard(browser, base, target) {
  const page = await open(browser, base, () => "keyboard", { viewport: screens.phone });
  const focused = () => page.evaluate(() => document.activeElement.textContent.trim());
  const tabTo = async (wanted) => {
    for (let presses = 0; presses < 200; presses++) {
      await page.keyboard.press("Tab");
      if (wanted.test(await focused())) {
        const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
        holds(outline !== "none", `keyboard: nothing shows where ${wanted} is`);
        return page.keyboard.press("Enter");
      }
    }
    return wrong(`keyboard: ${wanted} is never reached`);
  };
  await page.goto(base);
  await page.keyboard.press("Tab");
  holds(await focused() === "Skip to content", "keyboard: the first Tab does not skip");
  await page.keyboard.press("Enter");
  holds(await page.evaluate(() => document.activeElement.id) === "main", "keyboard: the skip leads nowhere");
  await tabTo(new RegExp(target));
  await page.getByRole("heading", { level: 1, name: target }).waitFor();
  await tabTo(/^Week$/);
  await page.locator(".spans [aria-current]", { hasText: "Week" }).waitFor();
  await tabTo(/^See the evidence$/);
  await tabTo(/^1$/);
  await page.getByRole("heading", { level: 1, name: /^Exchange/ }).waitFor();
  await page.context().close();
}

async function withoutScripts(browser, base, target) {
  const page = await open(browser, base, () => "without scripts", { javaScriptEnabled: false });
  await page.goto(base);
  await page.getByRole("link", { name: new RegExp(target) }).first().click();
  await page.getByRole("heading", { level: 1, name: target }).waitFor();
  await page.getByRole("link", { name: "Month", exact: true }).click();
  await page.locator(".spans [aria-current]", { hasText: "Month" }).waitFor();
  holds(await page.locator("#history ~ .pair svg.chart").count() === 2, "without scripts: no charts");
  holds(!(await page.locator("#live").isVisible()), "without scripts: says that it updates by itself");
  await page.locator("#exchanges ~ .scroll tbody a").first().click();
  await page.getByRole("heading", { level: 1, name: /^Exchange/ }).waitFor();
  await page.context().close();
}
