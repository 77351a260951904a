// The little that pages need beyond htmx: keys, toasts, errors of requests. Everything works without it, too.
(() => {
  "use strict";
  const typing = (target) => target.closest("input, textarea, select, [contenteditable]");

  document.addEventListener("keydown", (event) => {
    const search = document.getElementById("search");
    if ((event.key === "/" && !typing(event.target)) || (event.key === "k" && (event.ctrlKey || event.metaKey))) {
      event.preventDefault();
      search?.focus();
      search?.select();
    }
    if (event.target.closest?.(".topbar-search")) {
      walkResults(event, search);
      return;
    }
    if (event.key === "Escape" && !event.target.closest?.("form.composer")) document.querySelector("#verb-form [data-cancel]")?.click();
    if (typing(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "j" || event.key === "k") moveRow(event.key === "j" ? 1 : -1);
    if (event.key === "x") chooseRow();
  });

  // x marks the row that has the focus, for what is done with several.
  function chooseRow() {
    const box = document.activeElement?.closest("tr")?.querySelector('input[name="pick"]');
    if (box) {
      box.checked = !box.checked;
      countPicked();
    }
  }

  function countPicked() {
    const place = document.querySelector("[data-picked-count]");
    if (place) place.textContent = document.querySelectorAll('input[name="pick"]:checked').length;
  }
  document.addEventListener("change", countPicked);

  // In the search: the arrows walk over what is found, Escape closes it.
  function walkResults(event, search) {
    const hits = [...document.querySelectorAll("#search-results a")];
    if (event.key === "Escape") {
      document.getElementById("search-results").replaceChildren();
      if (document.activeElement === search) search.blur();
      else search.focus();
      return;
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !hits.length) return;
    event.preventDefault();
    const at = hits.indexOf(document.activeElement) + step;
    if (at < 0) search.focus();
    else hits[Math.min(at, hits.length - 1)].focus();
  }

  // j and k walk the rows of a list; Enter opens the row's link, because that is what has the focus.
  function moveRow(step) {
    const links = [...document.querySelectorAll("#list tbody tr a.row-link")];
    if (!links.length) return;
    const at = links.findIndex((link) => link.closest("tr").contains(document.activeElement));
    links[Math.min(Math.max(at + step, 0), links.length - 1)].focus();
  }

  document.addEventListener("click", (event) => {
    event.target.closest("[data-dismiss-toast]")?.closest(".portal-toast")?.remove();
    if (event.target.closest("[data-cancel]") && document.querySelector("#verb-form:not([data-page])")) {
      event.preventDefault();
      document.getElementById("verb-form").replaceChildren();
    }
    if (event.target.closest("[data-print]")) window.print();
    const all = event.target.closest("[data-select-all]");
    if (all) {
      document.querySelectorAll('input[type="checkbox"][name="' + all.dataset.selectAll + '"]')
        .forEach((box) => { box.checked = all.checked; });
      countPicked();
    }
  });

  // The words come with the page, in its language.
  const said = (name) => document.getElementById("toasts")?.dataset[name] ?? "";

  function toast(text) {
    const box = document.createElement("div");
    box.className = "portal-toast toast-error";
    const words = document.createElement("div");
    words.textContent = text;
    const close = document.createElement("button");
    close.type = "button";
    close.className = "btn-close";
    close.dataset.dismissToast = "";
    close.setAttribute("aria-label", said("dismiss"));
    box.append(words, close);
    document.getElementById("toasts")?.append(box);
  }

  function fadeSuccess() {
    document.querySelectorAll(".portal-toast:not(.toast-error):not([data-timed])").forEach((box) => {
      box.dataset.timed = "";
      window.setTimeout(() => box.remove(), 6000);
    });
  }

  document.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr } = event.detail;
    if (xhr.responseURL && new URL(xhr.responseURL).pathname.startsWith("/accounts/login")) {
      // The session has ended: show the login page instead of putting it into this one.
      event.detail.shouldSwap = false;
      window.location.reload();
      return;
    }
    if (xhr.status < 400) return;
    if (xhr.getResponseHeader("HX-Retarget")) {
      event.detail.shouldSwap = true;
      event.detail.isError = false;
      return;
    }
    if (event.detail.requestConfig.verb === "get" && event.target.hasAttribute("hx-trigger")) return;
    const page = new DOMParser().parseFromString(xhr.responseText, "text/html");
    const message = page.querySelector("[data-error-message]")?.dataset.errorMessage;
    toast(message || said("failed").replace("{status}", xhr.status));
  });
  document.addEventListener("portal:refused", (event) => toast(event.detail));
  // What somebody has unfolded stays so when its part of the page is painted anew.
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    const { target, fragment } = event.detail;
    target.querySelectorAll("details[open][id]").forEach((details) => {
      const same = fragment.querySelector("#" + CSS.escape(details.id));
      if (same) same.open = true;
    });
  });
  document.addEventListener("htmx:sendError", () => {
    document.body.classList.add("is-offline");
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful) document.body.classList.remove("is-offline");
  });
  document.addEventListener("htmx:afterSettle", (event) => {
    fadeSuccess();
    if (event.target.id === "verb-form" && event.target.children.length) {
      event.target.scrollIntoView({ block: "nearest" });
      event.target.querySelector("textarea, select, input:not([type=hidden])")?.focus();
    }
  });
  document.addEventListener("DOMContentLoaded", fadeSuccess);

  // What is wider than its place can be scrolled by keys, too.
  function reachScrollers() {
    document.querySelectorAll(".table-responsive, .impact-table").forEach((box) => {
      const scrolls = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
      box.toggleAttribute("tabindex", scrolls);
      if (!scrolls) return;
      box.tabIndex = 0;
      box.setAttribute("role", "region");
      box.setAttribute("aria-label", box.closest(".card")?.querySelector(".card-title")?.textContent.trim() || document.title);
    });
  }
  document.addEventListener("DOMContentLoaded", reachScrollers);
  document.addEventListener("htmx:afterSettle", reachScrollers);
  window.addEventListener("resize", reachScrollers);
})();
