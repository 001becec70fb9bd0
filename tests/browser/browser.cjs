// What all checks in a browser share: Chromium, axe-core, a list of what is wrong.
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { chromium } = require("playwright-core");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const screens = { phone: { width: 390, height: 844 }, desktop: { width: 1280, height: 800 } };
const languages = ["en", "ru", "tr", "fa"];
const problems = [];

function wrong(what) {
  problems.push(what);
}

/** Notes it as wrong unless it holds. */
function holds(condition, what) {
  if (!condition) wrong(what);
}

async function launch(executablePath) {
  process.env.FONTCONFIG_FILE = path.join(__dirname, "fonts.conf");
  const args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-default-apps", "--disable-sync", "--no-first-run", "--no-default-browser-check",
    "--font-render-hinting=none", "--disable-lcd-text", "--force-color-profile=srgb", "--hide-scrollbars"];
  return chromium.launch({ executablePath, args });
}

/** A page that tells what goes wrong on it: errors, and requests to anywhere else. */
async function open(browser, base, place, options = {}) {
  const context = await browser.newContext({ viewport: screens.desktop, locale: "en", timezoneId: "UTC", ...options });
  const page = await context.newPage();
  page.on("console", (message) => {
    if (message.type() === "error" && !message.text().includes("404")) wrong(`${place()}: console: ${message.text()}`);
  });
  page.on("pageerror", (error) => wrong(`${place()}: ${error}`));
  page.on("request", (request) => holds(request.url().startsWith(base), `${place()}: asks ${request.url()}`));
  return page;
}

/** What axe-core finds, and whether anything is wider than the screen. */
async function inspect(page, place) {
  const found = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ["violations"] })`);
  for (const { id, help, nodes } of found.violations) {
    wrong(`${place}: axe ${id}: ${help} (${nodes.map((node) => node.target).join("; ")})`);
  }
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  holds(wide <= 0, `${place}: ${wide} pixels too wide`);
}

/** Runs a check; exit status 1 and a list where anything was wrong. */
function run(check) {
  const [base, executablePath, ...more] = process.argv.slice(2);
  (async () => {
    const browser = await launch(executablePath);
    await check(browser, base, ...more);
    await browser.close();
  })().catch((error) => wrong(error.stack)).finally(() => {
    for (const problem of problems) console.error(problem);
    process.exit(problems.length ? 1 : 0);
  });
}

module.exports = { screens, languages, wrong, holds, open, inspect, run };
