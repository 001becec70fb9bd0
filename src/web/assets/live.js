// Brings the page up to date when something changed, and writes times in the reader's own zone. The page is whole without.
"use strict";
(() => {
  const lang = document.documentElement.lang;
  const zoned = new Intl.DateTimeFormat(lang, { dateStyle: "medium", timeStyle: "short" });

  function localise(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const own = zoned.format(new Date(time.dateTime));
      if (time.title) time.title = own; else time.textContent = own;
    }
  }

  async function refresh() {
    const answer = await fetch(location.href, { headers: { "Accept-Language": lang } });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    localise(fresh);
    for (const id of ["main", "updated"]) {
      const [old, now] = [document.getElementById(id), fresh.getElementById(id)];
      if (!old || !now || old.innerHTML === now.innerHTML) continue;
      // What is unfolded stays unfolded; where somebody is reading with the keyboard, nothing moves under them.
      const open = [...old.querySelectorAll("details")].map((details) => details.open);
      now.querySelectorAll("details").forEach((details, index) => { details.open = Boolean(open[index]); });
      const place = focusPath(old);
      old.replaceChildren(...now.childNodes);
      restore(old, place);
    }
  }

  function focusPath(root) {
    const focused = document.activeElement;
    if (!focused || focused === root || !root.contains(focused)) return null;
    return [...root.querySelectorAll("a, summary, [tabindex]")].indexOf(focused);
  }

  function restore(root, place) {
    if (place === null || place < 0) return;
    root.querySelectorAll("a, summary, [tabindex]")[place]?.focus({ preventScroll: true });
  }

  localise(document);
  const source = new EventSource("events");
  const live = document.getElementById("live");
  source.addEventListener("open", () => { live.hidden = false; });
  source.addEventListener("error", () => { live.hidden = true; });
  source.addEventListener("snapshot", () => { if (!document.hidden) refresh().catch(() => {}); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh().catch(() => {}); });
})();
