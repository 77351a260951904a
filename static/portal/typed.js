// What somebody has typed into the form of a verb or of a fact stays when another part of the page is ordered, and is
// not thrown away without a question. Everything works without it, too.
(() => {
  "use strict";
  const BOXES = "#verb-form, [id^='inline-']";
  const FORMS = "#verb-form form, form.inline-form";
  let kept = [];

  // A form that came back with its text (refused, or looked at) has that as its default.
  function isTyped(form) {
    if ("typed" in form.dataset) return true;
    return [...form.elements].some((field) => {
      if (field.type === "hidden" || field.disabled) return false;
      if (field.type === "checkbox" || field.type === "radio") return field.checked !== field.defaultChecked;
      if (field.type === "file") return field.files.length > 0;
      if (!field.options) return "defaultValue" in field && field.value !== field.defaultValue;
      const options = [...field.options];
      if (field.multiple) return options.some((option) => option.selected !== option.defaultSelected);
      return field.selectedIndex !== Math.max(options.findLastIndex((option) => option.defaultSelected), 0);
    });
  }

  const typedIn = (box) => [...(box?.querySelectorAll("form") ?? [])].some(isTyped);
  const mayDiscard = (box) => !typedIn(box) || window.confirm(document.getElementById("toasts").dataset.discard);
  const isWithin = (box, element) => Boolean(element && box.contains(element));

  // Another form is asked for where one with text stands.
  document.addEventListener("htmx:confirm", (event) => {
    const { elt, target } = event.detail;
    if (target?.matches?.(BOXES) && !isWithin(target, elt) && !mayDiscard(target)) event.preventDefault();
  });
  // "Never mind" says it; Escape may slip.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.target.closest?.(".topbar-search, form.composer")) return;
    if (!mayDiscard(document.getElementById("verb-form"))) event.stopImmediatePropagation();
  }, true);

  // The page is drawn anew because of something else: the form moves over, with what it was opened for.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { detail, target } = event;
    if (!detail.shouldSwap) return;
    const source = detail.requestConfig.elt;
    if (target.matches(BOXES) && !isWithin(target, source) && detail.xhr.status >= 400 && typedIn(target)) {
      // A refusal would come where somebody has written.
      detail.shouldSwap = false;
      const page = new DOMParser().parseFromString(detail.xhr.responseText, "text/html");
      const said = [...page.querySelectorAll(".alert, .invalid-feedback, .conflict strong")].map((one) => one.textContent.trim());
      document.dispatchEvent(new CustomEvent("portal:refused", { detail: said.join(" ") }));
      return;
    }
    if (target.id !== "content") return;
    const focused = document.activeElement;
    kept = [...target.querySelectorAll(FORMS)]
      .filter((form) => isTyped(form) && !isWithin(form.closest(BOXES), source))
      // What was refused there has just been sent from elsewhere.
      .filter((form) => form.getAttribute("action") !== source.getAttribute("action"))
      .map((form) => ({ box: form.closest(BOXES), focused: form.contains(focused) ? focused : null }));
    kept.forEach(({ box }) => box.remove());
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.target.id !== "content") return;
    kept.forEach(({ box, focused }) => {
      document.getElementById(box.id)?.replaceWith(box);
      focused?.focus();
    });
    kept = [];
  });
})();
