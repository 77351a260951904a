// Sends the file of the upload form in pieces, shows how far it is, and goes on after a lost connection or a closed page.
(() => {
  "use strict";
  const place = document.getElementById("upload");
  const form = place?.closest("form");
  if (!form) return;
  const words = place.dataset;
  const bar = place.querySelector("progress");
  const text = place.querySelector(".upload-text");
  const language = document.documentElement.lang;
  const token = form.querySelector("[name=csrfmiddlewaretoken]").value;
  const MAX_WAIT = 30_000;
  let request = null;
  let canceled = false;

  class Refused extends Error {
    constructor(status, told) {
      super(told.message || words.refused);
      this.status = status;
      this.told = told;
    }
  }

  function ask(method, url, body, progress) {
    return new Promise((ready, failed) => {
      request = new XMLHttpRequest();
      request.open(method, url);
      request.setRequestHeader("X-CSRFToken", token);
      if (body instanceof Blob) request.setRequestHeader("Content-Type", "application/octet-stream");
      if (progress) request.upload.onprogress = (event) => progress(event.loaded);
      request.onerror = () => failed(new TypeError("network"));
      request.onabort = () => failed(new DOMException("canceled", "AbortError"));
      request.onload = () => {
        let told = {};
        try { told = JSON.parse(request.responseText || "{}"); } catch { /* a page of a proxy or of the sign-in */ }
        if (request.status === 502 || request.status === 503 || request.status === 504) failed(new TypeError("network"));
        else if (request.status >= 400 || (request.status !== 204 && !told.url)) failed(new Refused(request.status, told));
        else ready(told);
      };
      request.send(body || null);
    });
  }

  const bytes = (count) => {
    const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
    const power = Math.min(Math.floor(Math.log10(Math.max(count, 1)) / 3), 3);
    return new Intl.NumberFormat(language, { style: "unit", unit: units[power], unitDisplay: "short", maximumFractionDigits: power > 1 ? 1 : 0 }).format(count / 1000 ** power);
  };
  const seconds = (count) => {
    const minutes = count >= 90;
    return new Intl.NumberFormat(language, { style: "unit", unit: minutes ? "minute" : "second", unitDisplay: "long", maximumFractionDigits: 0 }).format(minutes ? count / 60 : count);
  };

  function show(done, size, rate) {
    bar.max = size;
    bar.value = done;
    bar.textContent = `${Math.floor((done / size) * 100)} %`;
    const values = { done: bytes(done), size: bytes(size), rate: bytes(rate), left: seconds((size - done) / Math.max(rate, 1)) };
    if (rate) text.textContent = words.sent.replace(/\{(\w+)\}/g, (_all, name) => values[name]);
  }

  // What was begun and not finished is gone on with, also by another visit to the page.
  async function begin(file) {
    const values = new FormData(form);
    values.delete("file");
    const asked = new URLSearchParams(values);
    asked.delete("csrfmiddlewaretoken");
    // With all that was asked for: who corrects a checksum begins anew.
    const key = ["upload", words.begin, file.name, file.size, file.lastModified, asked].join("|");
    const kept = window.localStorage.getItem(key);
    if (kept) {
      try {
        return { key, upload: await ask("GET", kept) };
      } catch (error) {
        if (error.status !== 404) throw error;
        window.localStorage.removeItem(key);
      }
    }
    values.set("filename", file.name);
    values.set("size", file.size);
    const upload = await ask("POST", words.begin, values);
    window.localStorage.setItem(key, upload.url);
    return { key, upload };
  }

  async function pieces(upload, file) {
    const began = performance.now();
    const first = upload.received;
    let at = upload.received;
    let wait = 500;
    while (at < file.size) {
      const piece = file.slice(at, at + Number(words.pieceBytes));
      try {
        const from = at;
        const told = await ask("PUT", `${upload.url}?offset=${at}`, piece, (sent) => {
          show(from + sent, file.size, (from + sent - first) / ((performance.now() - began) / 1000));
        });
        at = told.received;
        wait = 500;
      } catch (error) {
        if (canceled) throw error;
        if (error instanceof Refused && error.told.code === "offset_mismatch") at = error.told.offset;
        else if (!(error instanceof TypeError) && error.told?.code !== "upload_busy" && error.told?.code !== "upload_cut") throw error;
        else {
          text.textContent = words.broken;
          await new Promise((ready) => { window.setTimeout(ready, wait); });
          wait = Math.min(wait * 2, MAX_WAIT);
          at = await ask("GET", upload.url).then((told) => told.received, () => at);
        }
      }
    }
  }

  async function send(file) {
    const { key, upload } = await begin(file);
    place.querySelector("[data-cancel-upload]").onclick = async () => {
      canceled = true;
      request?.abort();
      window.localStorage.removeItem(key);
      await ask("DELETE", upload.url).catch(() => {});
      window.location.reload();
    };
    await pieces(upload, file);
    text.textContent = words.checking;
    const { page } = await ask("POST", upload.url);
    window.localStorage.removeItem(key);
    window.location.assign(page);
  }

  form.addEventListener("submit", (event) => {
    const file = form.querySelector("input[type=file]").files[0];
    if (!file?.size || !form.reportValidity()) return;
    event.preventDefault();
    const actions = form.querySelector(".form-actions");
    canceled = false;
    place.hidden = false;
    actions.hidden = true;
    show(0, file.size, 0);
    send(file).catch((error) => {
      if (canceled) return;
      actions.hidden = false;
      text.textContent = error instanceof Refused ? error.message : words.broken;
      place.classList.add("is-refused");
    });
  });
})();
