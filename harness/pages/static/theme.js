// Dark or light: as the reader chose before, else as the device is set. In the head, so that a page
// never shows the other one first.
"use strict";
(function () {
  const root = document.documentElement;
  // Pages opened as files may have no storage: then the choice lasts for the page.
  const storage = {
    read() { try { return localStorage.getItem("theme"); } catch { return null; } },
    write(theme) { try { localStorage.setItem("theme", theme); } catch { /* none */ } },
  };
  const device = matchMedia("(prefers-color-scheme: dark)");
  const chosen = storage.read();
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  const current = () => root.dataset.theme || (device.matches ? "dark" : "light");
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => {
      button.textContent = current() === "dark" ? "Light" : "Dark";
      document.dispatchEvent(new Event("theme"));
    };
    button.hidden = false;
    button.addEventListener("click", () => {
      root.dataset.theme = current() === "dark" ? "light" : "dark";
      storage.write(root.dataset.theme);
      show();
    });
    device.addEventListener("change", show);
    show();
  });
})();
