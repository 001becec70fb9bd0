// Usage: node demo.cjs URL CHROMIUM TARGET. Watches the demonstration from its begin to its end, as a newcomer does.
"use strict";
const { holds, open, inspect, run } = require("./browser.cjs");

/** A busy machine may take long for a stage; the demonstration itself gives up after two minutes. */
const STAGE = { timeout: 150_000 };

run(async (browser, base, target) => {
  let place = "";
  const page = await open(browser, base, () => place);
  const beside = await open(browser, base, () => place);
  const step = (name) => { place = name; };
  const named = async (page) => {
    holds(await page.getByRole("note").filter({ hasText: /Emulated/ }).isVisible(), `${place}: ${page.url()} does not say emulated`);
  };
  const verdict = (page, word) => page.locator(".verdict-panel .verdict", { hasText: word }).waitFor(STAGE);

  step("normal");
  await page.goto(`${base}/target?id=${encodeURIComponent(target)}`);
  await named(page);
  await page.evaluate(() => { window.stays = true; });
  await verdict(page, "normal");
  await inspect(page, place);
  await beside.goto(base);
  await named(beside);
  await beside.getByRole("heading", { level: 1, name: "No interference found" }).waitFor(STAGE);

  step("found");
  await verdict(page, "throttled");
  await beside.getByRole("heading", { level: 1, name: /is being interfered with/ }).waitFor(STAGE);
  await inspect(page, place);
  await beside.getByRole("link", { name: new RegExp(target) }).first().click();
  await named(beside);
  await beside.locator("#incidents ~ .scroll tbody tr", { hasText: "goes on" }).waitFor(STAGE);
  holds(await beside.locator("#curves ~ .pair svg").count() === 2, `${place}: no pictures of the last good and the last bad transfer`);
  await beside.locator("#incidents ~ .scroll tbody").getByRole("link", { name: /^Exchange/ }).first().click();
  await beside.getByRole("heading", { level: 1, name: /^Exchange/ }).waitFor();
  await named(beside);
  for (const language of ["fa", "ru", "tr"]) {
    await beside.goto(`${base}/?lang=${language}`);
    holds(await beside.locator(".emulated").isVisible(), `${place}: ${language} does not say emulated`);
  }
  await beside.goto(`${base}/?lang=en`);

  step("lifted");
  await verdict(page, "normal");
  await page.locator("#incidents ~ .scroll tbody tr", { hasNotText: "goes on" }).first().waitFor(STAGE);
  await beside.getByRole("heading", { level: 1, name: "No interference found" }).waitFor(STAGE);
  holds(await page.evaluate(() => window.stays), `${place}: the page did not follow by itself`);
  await inspect(page, place);
});
