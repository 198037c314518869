// Shows the progress of an operation. Everything else works without scripts.
"use strict";
for (const place of document.querySelectorAll("[data-events]")) {
  const events = new EventSource(place.dataset.events);
  const show = (message) => {
    const told = JSON.parse(message.data);
    if (!told) return;
    for (const field of place.querySelectorAll("[data-field]")) {
      const value = told[field.dataset.field];
      const text = value === null || value === undefined ? "–" : value.toLocaleString("en");
      if (field.textContent !== text) field.textContent = text;
    }
  };
  events.addEventListener("progress", show);
  events.addEventListener("end", (message) => {
    show(message);
    events.close();
    window.location.reload();
  });
}
for (const form of document.querySelectorAll("form[method=post]")) {
  form.addEventListener("submit", () => {
    for (const button of form.querySelectorAll("button")) button.setAttribute("aria-busy", "true");
  });
}
