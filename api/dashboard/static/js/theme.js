// Runs before the first paint, so that a chosen theme never flashes. A classic script: modules come too late for that.
"use strict";

(() => {
  const CHOICES = ["system", "light", "dark"];
  const STORED = "sluicegate-theme";

  function stored() {
    try {
      const choice = localStorage.getItem(STORED);
      return CHOICES.includes(choice) ? choice : "system";
    } catch {
      return "system"; // storage may be switched off
    }
  }

  function apply(choice) {
    if (choice === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = choice;
    dispatchEvent(new Event("themechange"));
  }

  function name(button, choice) {
    button.textContent = `Theme: ${choice}`;
  }

  let current = stored();
  apply(current);
  for (const query of ["(prefers-color-scheme: dark)", "print"]) {
    matchMedia(query).addEventListener("change", () => dispatchEvent(new Event("themechange")));
  }
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    name(button, current);
    button.addEventListener("click", () => {
      current = CHOICES[(CHOICES.indexOf(current) + 1) % CHOICES.length];
      try {
        localStorage.setItem(STORED, current);
      } catch {
        // then it holds for this page alone
      }
      name(button, current);
      apply(current);
    });
  });
})();
