// Moving a change by mouse or keys. Nothing is stored here: the form opens with the new time and what stands against it.
(() => {
  "use strict";
  const FAR = 5; // pixels before a press becomes a drag
  const MINUTE = 60000;
  let drag = null;

  // Times are those of the reader's zone; reckoned as if they were UTC, so that the browser's own zone does not matter.
  const parse = (text) => Date.parse(text + ":00Z");
  const format = (moment) => new Date(moment).toISOString().slice(0, 16);

  function open(entry, start) {
    const query = new URLSearchParams({ back: document.getElementById("calendar").dataset.back });
    if (start !== null) query.set("planned_start", format(start));
    window.htmx.ajax("GET", entry.dataset.move + "?" + query, { target: "#verb-form", swap: "innerHTML" });
  }

  // The time that this point of the page stands for, and its place; null where there is none.
  function timeAt(x, y) {
    const place = document.elementsFromPoint(x, y).find((one) => one.matches("[data-date], .cal-track[data-first]"));
    if (!place) return null;
    const box = place.getBoundingClientRect();
    const day = parse((place.dataset.date || place.dataset.first) + "T00:00");
    let quarters = 0; // a whole cell is a day
    if (place.matches(".cal-track")) quarters = Math.round(((x - box.left) / box.width) * 14 * 96);
    if (place.matches(".cal-column")) quarters = Math.round(((y - box.top) / box.height) * 96);
    return { place, time: day + quarters * 15 * MINUTE };
  }

  function mark(place) {
    document.querySelectorAll("#calendar .is-target").forEach((one) => one.classList.remove("is-target"));
    place?.classList.add("is-target");
  }

  function end() {
    drag?.entry.classList.remove("is-dragged");
    mark(null);
    drag = null;
  }

  document.addEventListener("pointerdown", (event) => {
    const entry = event.target.closest("#calendar [data-move]");
    if (!entry || event.button !== 0 || event.pointerType === "touch") return;
    drag = { entry, x: event.clientX, y: event.clientY, from: timeAt(event.clientX, event.clientY)?.time, moved: false };
  });
  document.addEventListener("pointermove", (event) => {
    if (!drag) return;
    if (!drag.moved && Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < FAR) return;
    drag.moved = true;
    drag.entry.classList.add("is-dragged");
    event.preventDefault();
    mark(timeAt(event.clientX, event.clientY)?.place);
  });
  document.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const { entry, from, moved } = drag;
    const to = moved ? timeAt(event.clientX, event.clientY)?.time : undefined;
    end();
    if (!moved) return;
    // The click that follows belongs to the drag.
    const swallow = (click) => { click.preventDefault(); click.stopPropagation(); };
    window.addEventListener("click", swallow, { capture: true, once: true });
    window.setTimeout(() => window.removeEventListener("click", swallow, { capture: true }), 0);
    if (from !== undefined && to !== undefined && to !== from) open(entry, parse(entry.dataset.start) + to - from);
  });
  document.addEventListener("pointercancel", end);
  document.addEventListener("dragstart", (event) => {
    if (event.target.closest?.("#calendar [data-move]")) event.preventDefault();
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") end();
    const entry = event.target.closest?.("#calendar [data-move]");
    if (!entry || event.ctrlKey || event.metaKey) return;
    const days = event.altKey ? { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -7, ArrowDown: 7 }[event.key] : undefined;
    if (days !== undefined) {
      event.preventDefault();
      open(entry, parse(entry.dataset.start) + days * 24 * 60 * MINUTE);
    } else if (event.key === "m" && !event.altKey) {
      event.preventDefault();
      open(entry, null);
    }
  });
})();
