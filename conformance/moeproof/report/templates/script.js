"use strict";
// The page is complete without this: it only adds buttons that copy, and a filter.
for (const command of document.querySelectorAll(".command")) {
  const text = command.textContent.trim();
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  command.prepend(button);
}
const failures = document.querySelectorAll("#failures .failure");
if (failures.length > 1) {
  const filter = document.createElement("input");
  filter.type = "search";
  filter.className = "filter";
  filter.placeholder = "Show only failures with all of these words";
  filter.setAttribute("aria-label", filter.placeholder);
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/);
    for (const failure of failures) {
      const text = failure.textContent.toLowerCase();
      failure.hidden = !words.every((word) => text.includes(word));
    }
    if (filter.value) {
      for (const details of document.querySelectorAll("#failures details")) details.open = true;
    }
  });
  document.querySelector("#failures > p").after(filter);
}
