// Pages of tickets: a draft survives whatever happens to the page, @ proposes people, and who writes is told to others.
// Everything works without it, too.
(() => {
  "use strict";
  const composer = () => document.querySelector("form.composer[data-draft]");
  const keyOf = (form) => "draft:" + form.dataset.draft;

  // Who may read it is kept with the text: what was meant for colleagues never comes back as a public comment.
  function keep(form) {
    const text = form.elements.text.value;
    const draft = { text, public: form.elements.public?.value };
    try {
      if (text.trim()) localStorage.setItem(keyOf(form), JSON.stringify(draft));
      else localStorage.removeItem(keyOf(form));
    } catch { return; } // a browser that keeps nothing
    const state = form.querySelector("#draft-state");
    state.textContent = text.trim() ? state.dataset.kept : "";
  }

  function kept(form) {
    try { return JSON.parse(localStorage.getItem(keyOf(form))); } catch { return null; }
  }

  function restore() {
    const form = composer();
    if (!form || form.elements.text.value) return;
    const draft = kept(form);
    if (!draft || (draft.public === "0" && !form.elements.public)) return;
    form.elements.text.value = draft.text;
    if (form.elements.public) form.elements.public.value = draft.public === "1" ? "1" : "0";
    keep(form);
  }

  document.addEventListener("input", (event) => {
    const form = event.target.closest("form.composer[data-draft]");
    if (!form) return;
    keep(form);
    if (event.target.name === "text") propose(event.target);
  });
  document.addEventListener("DOMContentLoaded", () => { forgetWhatArrived(); restore(); });
  document.addEventListener("htmx:afterSettle", restore);
  // What was sent is no draft any more; a refusal keeps it, and so does any other page, as that for signing in.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const form = event.detail.requestConfig?.elt;
    const { shouldSwap, xhr } = event.detail;
    if (!shouldSwap || xhr.status >= 400 || !form?.matches?.("form.composer[data-draft]")) return;
    if (new URL(xhr.responseURL).pathname === new URL("..", form.action).pathname) {
      try { localStorage.removeItem(keyOf(form)); } catch { /* nothing is kept */ }
      form.elements.text.value = "";
    }
  });
  // Without htmx the form is sent by the browser; whether it arrived is seen when the ticket has a newer entry.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.matches("[data-forget-drafts]")) forgetDrafts();
    if (window.htmx || !form.matches("form.composer[data-draft]") || event.submitter?.name === "preview") return;
    try { sessionStorage.setItem("sent:" + keyOf(form), newest()); } catch { /* nothing is kept */ }
  });
  function forgetWhatArrived() {
    const form = composer();
    if (!form) return;
    try {
      const before = sessionStorage.getItem("sent:" + keyOf(form));
      sessionStorage.removeItem("sent:" + keyOf(form));
      if (before !== null && newest() > Number(before)) localStorage.removeItem(keyOf(form));
    } catch { /* nothing is kept */ }
  }
  // Whoever signs out leaves nothing for the next one at this device.
  function forgetDrafts() {
    try {
      Object.keys(localStorage).filter((key) => key.startsWith("draft:")).forEach((key) => localStorage.removeItem(key));
    } catch { /* nothing is kept */ }
  }

  // The page asks for news only while somebody looks at it, and says whether he is writing.
  document.addEventListener("htmx:configRequest", (event) => {
    if (event.target.id !== "live") return;
    if (document.hidden) { event.preventDefault(); return; }
    const isWriting = composer()?.elements.text.value.trim() || document.querySelector("#verb-form form, .inline-form");
    if (isWriting) event.detail.parameters.writing = "1";
    const entries = document.getElementById("entries");
    if (!entries) return;
    if (entries.dataset.only) event.detail.parameters.only = entries.dataset.only;
    // Above an older part nothing new belongs.
    if ("older" in entries.dataset) event.detail.parameters.entries = "none";
    event.detail.parameters.after = newest();
  });
  // The highest key of an entry on the page; 0: none.
  function newest() {
    return Math.max(0, ...[...document.querySelectorAll("#entries > [id^='entry-']")].map((entry) => Number(entry.id.slice(6))));
  }
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    const { fragment, target } = event.detail;
    if (target.id !== "entries") return;
    fragment.querySelectorAll("[id^='entry-']").forEach((entry) => { if (document.getElementById(entry.id)) entry.remove(); });
    if (fragment.querySelector("[id^='entry-']")) target.querySelector(".timeline-none")?.remove();
  });

  document.addEventListener("click", (event) => {
    const choice = event.target.closest(".mentions li");
    if (choice) take(choice);
  });

  // --- Mentions -----------------------------------------------------------------------------------------------------
  let asked = 0;
  const list = () => document.getElementById("mentions");
  const wordAt = (field) => field.value.slice(0, field.selectionStart).match(/(?:^|[^\w@./+-])@([\w.+-]{1,40})$/);

  async function propose(field) {
    const word = field.dataset.people && wordAt(field);
    const turn = ++asked;
    if (!word) { close(); return; }
    await new Promise((later) => { window.setTimeout(later, 200); });
    if (turn !== asked) return;
    const isNote = field.form.querySelector("[name=public]:checked")?.value === "0";
    const address = field.dataset.people + "?q=" + encodeURIComponent(word[1]) + (isNote ? "&note=1" : "");
    const answer = await fetch(address, { headers: { Accept: "application/json" } }).catch(() => null);
    if (turn !== asked || !answer?.ok) return;
    const { people } = await answer.json();
    if (turn !== asked) return;
    list().replaceChildren(...people.map((person, at) => {
      const row = document.createElement("li");
      row.id = "mention-" + at;
      row.setAttribute("role", "option");
      row.dataset.username = person.username;
      row.textContent = person.name === person.username ? person.name : person.name + " (" + person.username + ")";
      return row;
    }));
    list().hidden = !people.length;
    if (people.length) choose(0);
  }

  function choose(at) {
    const rows = [...list().children];
    rows.forEach((row, place) => row.setAttribute("aria-selected", String(place === at)));
    document.getElementById("id_text").setAttribute("aria-activedescendant", rows[at].id);
  }

  function close() {
    asked += 1;
    if (!list()) return;
    list().hidden = true;
    list().replaceChildren();
    document.getElementById("id_text")?.removeAttribute("aria-activedescendant");
  }

  function take(row) {
    const field = document.getElementById("id_text");
    const word = wordAt(field);
    if (word) field.setRangeText("@" + row.dataset.username + " ", field.selectionStart - word[1].length - 1, field.selectionStart, "end");
    close();
    field.focus();
    keep(field.form);
  }

  document.addEventListener("keydown", (event) => {
    if (event.target.id !== "id_text" || !list() || list().hidden) return;
    const rows = [...list().children];
    const at = rows.findIndex((row) => row.getAttribute("aria-selected") === "true");
    if (event.key === "ArrowDown" || event.key === "ArrowUp") choose((at + (event.key === "ArrowDown" ? 1 : -1) + rows.length) % rows.length);
    else if (event.key === "Enter" || event.key === "Tab") take(rows[at]);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }, true);
})();
