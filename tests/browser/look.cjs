// Usage: node look.cjs URL CHROMIUM EXCHANGE. Looks at every page of a past that never changes.
"use strict";
const { screens, languages, holds, wrong, open, inspect, run } = require("./browser.cjs");
const pictures = require("./pictures.cjs");

run(async (browser, base, exchange) => {
  const pages = {
    overview: "/",
    target: "/target?id=twitter%2Fimages",
    month: "/target?id=twitter%2Fimages&span=month",
    control: "/target?id=control%2Fcdn",
    exchange: `/exchange?id=${exchange}`,
    missing: "/target?id=none",
  };
  const blank = await (await browser.newContext()).newPage();
  let place = "";
  for (const language of languages) {
    const page = await open(browser, base, () => place, { locale: language });
    for (const [name, address] of Object.entries(pages)) {
      place = `${name} ${language}`;
      await page.goto(base + address);
      await page.locator("#live").waitFor({ state: "visible" });
      const direction = await page.evaluate(() => getComputedStyle(document.body).direction);
      holds(direction === (language === "fa" ? "rtl" : "ltr"), `${place}: runs ${direction}`);
      for (const colorScheme of ["light", "dark"]) {
        for (const screen of Object.keys(screens)) {
          await page.emulateMedia({ colorScheme });
          await page.setViewportSize(screens[screen]);
          place = `${name} ${language} ${colorScheme} ${screen}`;
          await inspect(page, place);
          if (!pictured(name, language, colorScheme, screen)) continue;
          const png = await page.screenshot({ fullPage: true, animations: "disabled" });
          const different = await pictures.check(blank, place.replaceAll(" ", "-"), png);
          if (different) wrong(different);
        }
      }
    }
    await page.context().close();
  }
});

/** Every page in light and dark, on phone and desktop; the other languages where they differ most. */
function pictured(name, language, colorScheme, screen) {
  if (language === "en") return name !== "month" || screen === "desktop";
  return ["overview", "target"].includes(name) && colorScheme === (language === "fa" ? "dark" : "light") && screen === "phone";
}
