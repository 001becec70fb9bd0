// Usage: node check.cjs URL CHROMIUM. Exit status 1 and a list of what is wrong, if anything is.
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { chromium } = require("playwright-core");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const [base, executablePath] = process.argv.slice(2);
const folder = process.env.THROTTLESCOPE_SCREENSHOTS;
const pages = {
  overview: "/",
  target: "/target?id=twitter%2Fimages",
  month: "/target?id=twitter%2Fimages&span=month",
  control: "/target?id=control%2Fcdn",
  exchange: `/exchange?id=${"b".repeat(32)}`,
  missing: "/target?id=none",
};
const screens = { phone: { width: 360, height: 740 }, desktop: { width: 1280, height: 800 } };
const problems = [];

async function look(browser, name, address, language, scheme, screen) {
  const context = await browser.newContext({ viewport: screens[screen], colorScheme: scheme, locale: language });
  const page = await context.newPage();
  const place = `${name} ${language} ${scheme} ${screen}`;
  page.on("console", (message) => {
    if (message.type() === "error" && name !== "missing") problems.push(`${place}: console: ${message.text()}`);
  });
  page.on("pageerror", (error) => problems.push(`${place}: ${error}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(base)) problems.push(`${place}: asks ${request.url()}`);
  });
  await page.goto(base + address);
  const found = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ["violations"] })`);
  for (const violation of found.violations) {
    problems.push(`${place}: axe ${violation.id}: ${violation.help} (${violation.nodes.map((node) => node.target).join("; ")})`);
  }
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (wide > 0) problems.push(`${place}: ${wide} pixels too wide`);
  if (folder) {
    await page.screenshot({ path: path.join(folder, `${name}-${language}-${scheme}-${screen}.png`), fullPage: true });
  }
  await context.close();
}

async function walk(browser) {
  const context = await browser.newContext({ viewport: screens.desktop, acceptDownloads: true });
  const page = await context.newPage();
  await page.goto(base);
  await page.locator("#live").waitFor({ state: "visible" });
  await page.keyboard.press("Tab");
  if ((await page.evaluate(() => document.activeElement.className)) !== "skip") problems.push("walk: Tab does not skip first");
  await page.getByRole("link", { name: /twitter\/images/ }).first().click();
  await page.getByRole("heading", { level: 1, name: "twitter/images" }).waitFor();
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "ndjson" }).click()]);
  const lines = fs.readFileSync(await download.path(), "utf8").split("\n").length;
  if (lines !== 1001) problems.push(`walk: the export has ${lines} lines`);
  await page.locator("#curves ~ .pair a").last().click();
  await page.getByRole("heading", { level: 1, name: /Exchange/ }).waitFor();
  await page.getByRole("link", { name: "twitter/images" }).click();
  await page.getByRole("link", { name: "Week", exact: true }).click();
  await page.locator("summary").first().click();
  const paints = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint").map((e) => e.startTime));
  console.log(`first paint after ${paints.map((t) => Math.round(t))} ms`);
  await context.close();
}

async function withoutScripts(browser) {
  const context = await browser.newContext({ javaScriptEnabled: false });
  const page = await context.newPage();
  await page.goto(base);
  await page.getByRole("link", { name: /telegram\/web/ }).first().click();
  if (!(await page.locator("h1").innerText()).includes("telegram/web")) problems.push("without scripts: no target page");
  await context.close();
}

(async () => {
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  for (const [name, address] of Object.entries(pages)) {
    for (const scheme of ["light", "dark"]) {
      for (const screen of Object.keys(screens)) await look(browser, name, address, "en", scheme, screen);
    }
    for (const language of ["fa", "ru", "tr"]) await look(browser, name, address, language, "light", "phone");
  }
  await walk(browser);
  await withoutScripts(browser);
  await browser.close();
  for (const problem of problems) console.error(problem);
  process.exit(problems.length ? 1 : 0);
})().catch((error) => { console.error(error); process.exit(1); });
