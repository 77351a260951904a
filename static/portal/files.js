// Files for a ticket: chosen, dropped or pasted; each may be taken away again before they are sent. Without scripts the
// field itself chooses them.
(() => {
  "use strict";
  const fieldOf = (form) => form?.querySelector("input[type=file][name=files]");
  const formAt = (target) => target.closest?.("form.composer, form:has(input[type=file][name=files])");

  // A choice takes the place of the last one; here it is added to it.
  const chosen = new WeakMap();

  function put(field, files) {
    const all = new DataTransfer();
    files.forEach((file) => all.items.add(file));
    field.files = all.files;
    chosen.set(field, files);
    show(field.form);
  }

  const add = (field, files) => put(field, [...(chosen.get(field) ?? []), ...files]);

  function show(form) {
    const list = form.querySelector(".files-chosen");
    const files = [...fieldOf(form).files];
    // A file alone is enough of a comment.
    if (form.elements.text) form.elements.text.required = !files.length;
    if (!list) return;
    list.hidden = !files.length;
    list.replaceChildren(...files.map((file, at) => {
      const row = document.createElement("li");
      const name = document.createElement("span");
      name.textContent = file.name;
      const size = document.createElement("small");
      size.textContent = Math.ceil(file.size / 1024).toLocaleString() + " kB";
      const remove = document.createElement("button");
      remove.type = "button";
      remove.className = "btn-close";
      remove.dataset.file = at;
      remove.setAttribute("aria-label", list.dataset.remove.replace("{name}", file.name));
      row.append(name, size, remove);
      return row;
    }));
  }

  document.addEventListener("change", (event) => {
    if (event.target.matches("input[type=file][name=files]")) add(event.target, [...event.target.files]);
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".files-chosen [data-file]");
    if (!button) return;
    const field = fieldOf(button.closest("form"));
    put(field, [...field.files].filter((_file, at) => at !== Number(button.dataset.file)));
    field.focus();
  });
  document.addEventListener("paste", (event) => {
    const form = formAt(event.target);
    const files = [...(event.clipboardData?.files ?? [])];
    if (!form || !fieldOf(form) || !files.length) return;
    event.preventDefault();
    add(fieldOf(form), files);
  });

  const carries = (event) => event.dataTransfer?.types.includes("Files") && fieldOf(formAt(event.target));
  document.addEventListener("dragover", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    formAt(event.target).classList.add("is-dropping");
  });
  document.addEventListener("dragleave", (event) => formAt(event.target)?.classList.remove("is-dropping"));
  document.addEventListener("drop", (event) => {
    const field = carries(event);
    if (!field) return;
    event.preventDefault();
    field.form.classList.remove("is-dropping");
    add(field, [...event.dataTransfer.files]);
  });
})();
